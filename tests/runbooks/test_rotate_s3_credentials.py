"""rotate-s3-credentials: the IAM user is left with one key that works, whatever happens on the way."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from prefect.client.schemas.objects import State

from deployments.sandbox.stack import Sandbox
from flows.rotate_s3_credentials import rotate_s3_credentials
from tests.adapters.iam_user import IamUser, Key, iam_user
from tests.runbooks.conftest import Children, Ledgers, artifacts_of, completed, failed
from tests.runbooks.rotation_walking import Rotated, make_rotated

ID, SECRET = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
QUIET = "PT0.001S"


@pytest.fixture(scope="module")
def operated(
    sandbox: Sandbox, prefect_server: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rotated]:
    with pytest.MonkeyPatch.context() as environment:
        maker = Ledgers(sandbox, tmp_path_factory.mktemp("s3"), environment)
        yield make_rotated(
            maker, sandbox, AWS_ACCESS_KEY_ID="AKIAFIRST00000000000", AWS_SECRET_ACCESS_KEY="x"
        )
        maker.remove()


@pytest.fixture
def user(sandbox: Sandbox) -> Iterator[IamUser]:
    with iam_user(sandbox) as made:
        yield made


@pytest.fixture
def rotated(operated: Rotated, user: IamUser) -> Rotated:
    operated.set_variables(AWS_ACCESS_KEY_ID=user.key[0], AWS_SECRET_ACCESS_KEY=user.key[1])
    for left in operated.folder.glob("*") if operated.folder.exists() else ():
        left.unlink()
    allow(operated, user)
    return operated


def allow(rotated: Rotated, user: IamUser, **terms: Any) -> None:
    rotated.ledger.settings["credentials"] = {"s3": user.terms(**terms)}
    rotated.ledger.change()


def rotate(rotated: Rotated, **parameters: Any) -> State[Any]:
    return cast("State[Any]", rotate_s3_credentials(rotated.ledger.name, **parameters, return_state=True))


def key_of(rotated: Rotated) -> Key:
    return rotated.variables[ID], rotated.variables[SECRET]


def is_one_left(rotated: Rotated, user: IamUser) -> bool:
    """Is the key of the env file the user's only one, and does it work; is no object left behind?"""
    now = key_of(rotated)
    objects = user.objects()
    return user.keys() == {now[0]: "Active"} and user.works(now) and set(objects) <= {"used"}


def test_the_old_key_is_made_inactive_when_it_is_quiet_and_deleted_after_the_soak(
    rotated: Rotated, user: IamUser, sandbox: Sandbox
) -> None:
    allow(rotated, user, grace=QUIET)
    sandbox.vendors.conduct("iam", propagation_seconds=0.5)
    state = rotate(rotated)
    new = key_of(rotated)
    assert "S3 refuses it" in completed(state)
    assert user.keys() == {user.key[0]: "Inactive", new[0]: "Active"}
    assert (user.works(new), user.works(user.key)) == (True, False)
    assert rotated.kept() == {"s3.previous"}
    shown = "".join(artifacts_of(state).values())
    assert f"Make a second access key of the IAM user {user.name}" in shown
    assert not any(secret in shown for secret in (user.key[1], new[1]))

    assert "nothing was done" in completed(rotate(rotated))
    rotated.end_grace("s3")
    assert completed(rotate(rotated)).endswith(
        "The old key is deleted, and S3 refuses it (InvalidAccessKeyId)."
    )
    assert key_of(rotated) == new
    assert is_one_left(rotated, user)
    assert rotated.is_settled()
    assert rotated.history() == ["rotated", "retired"]


def test_a_key_that_is_still_used_stays_until_it_is_quiet_or_there_is_an_emergency(
    rotated: Rotated, user: IamUser
) -> None:
    first = key_of(rotated)
    completed(rotate(rotated))
    assert user.works(first)
    rotated.end_grace("s3")
    assert "The old one stays, it was used at" in completed(rotate(rotated))
    second = key_of(rotated)
    assert set(user.keys()) == {first[0], second[0]}
    completed(rotate(rotated, emergency=True))
    assert key_of(rotated) not in (first, second)
    assert is_one_left(rotated, user)
    assert rotated.is_settled()
    assert rotated.history() == ["rotated", "retired", "rotated", "retired"]


def test_an_emergency_whose_retirement_failed_once_does_not_wait_for_whoever_uses_the_old_key(
    rotated: Rotated, user: IamUser, sandbox: Sandbox
) -> None:
    first = key_of(rotated)
    sandbox.vendors.conduct("iam", faults=[{"path": "/UpdateAccessKey", "status": 403}])
    assert "The old one is not retired yet" in failed(rotate(rotated, emergency=True))
    sandbox.vendors.conduct("iam", faults=[])
    assert user.works(first)
    assert completed(rotate(rotated)).endswith(
        "The old key is deleted, and S3 refuses it (InvalidAccessKeyId)."
    )
    assert is_one_left(rotated, user)
    assert rotated.is_settled()


@pytest.mark.parametrize("is_deleted", [True, False], ids=["deleted", "made inactive"])
def test_an_emergency_in_a_grace_replaces_a_new_key_that_a_person_has_ended_at_iam(
    rotated: Rotated, user: IamUser, is_deleted: bool
) -> None:
    first = key_of(rotated)
    completed(rotate(rotated))
    leaked = key_of(rotated)
    if is_deleted:
        user.iam.delete_access_key(UserName=user.name, AccessKeyId=leaked[0])
    else:
        user.iam.update_access_key(UserName=user.name, AccessKeyId=leaked[0], Status="Inactive")
    assert user.works(first)
    completed(rotate(rotated, emergency=True))
    assert key_of(rotated) not in (first, leaked)
    assert not user.works(first)
    assert is_one_left(rotated, user)
    assert rotated.is_settled()
    assert rotated.history() == ["rotated", "retired", "rotated", "retired"]


def test_an_old_key_that_a_person_put_back_is_not_retired_and_an_emergency_ends_both(
    rotated: Rotated, user: IamUser
) -> None:
    leaked = key_of(rotated)
    allow(rotated, user, grace=QUIET)
    completed(rotate(rotated))
    user.iam.update_access_key(UserName=user.name, AccessKeyId=leaked[0], Status="Active")
    made = key_of(rotated)
    rotated.set_variables(AWS_ACCESS_KEY_ID=leaked[0], AWS_SECRET_ACCESS_KEY=leaked[1])
    rotated.end_grace("s3")
    said = completed(rotate(rotated))
    assert "The old one stays, somebody made it active again" in said
    assert set(user.keys()) == {leaked[0], made[0]}

    said = completed(rotate(rotated, emergency=True))
    assert "The key that the rotation before had made is deleted: the old one was in force again." in said
    assert key_of(rotated) not in (leaked, made)
    assert not user.works(leaked)
    assert is_one_left(rotated, user)
    assert rotated.is_settled()
    assert rotated.history() == ["rotated", "undone", "rotated", "retired"]


def test_an_old_key_that_is_in_force_again_and_quiet_is_not_retired_with_the_way_out(
    rotated: Rotated, user: IamUser
) -> None:
    old = key_of(rotated)
    completed(rotate(rotated))
    rotated.set_variables(AWS_ACCESS_KEY_ID=old[0], AWS_SECRET_ACCESS_KEY=old[1])
    allow(rotated, user, grace=QUIET)
    rotated.end_grace("s3")
    message = failed(rotate(rotated))
    assert "is the old one again, so it is not retired" in message
    assert "emergency=True, which replaces it" in message
    assert user.works(old)


@pytest.mark.parametrize("step", ["retiring the old one", "making the new one"])
def test_an_emergency_in_a_grace_that_is_killed_is_finished_by_the_next_one(
    rotated: Rotated, user: IamUser, children: Children, step: str
) -> None:
    first = key_of(rotated)
    completed(rotate(rotated))
    second = key_of(rotated)
    order = {"parameters": {"service": rotated.ledger.name, "emergency": True}, "kill_after_step": step}
    assert children.start(rotated.ledger, "rotate_s3_credentials", **order).wait() is None
    completed(rotate(rotated, emergency=True))
    assert key_of(rotated) not in (first, second)
    assert is_one_left(rotated, user)
    assert rotated.is_settled()


def test_two_keys_are_refused_with_the_way_out_and_nothing_is_changed(
    rotated: Rotated, user: IamUser
) -> None:
    other = user.make_key()
    message = failed(rotate(rotated))
    assert f"--access-key-id {other[0]}" in message
    assert set(user.keys()) == {user.key[0], other[0]}
    assert key_of(rotated) == user.key
    assert rotated.is_settled()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.aws_asking.READ_SECONDS", 0.5)
    monkeypatch.setattr("tasks.rotator_s3.KNOWN_EVERYWHERE_SECONDS", 0.3)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (
            {"faults": [{"path": "/CreateAccessKey", "status": None, "works": True}]},
            "IAM did not answer (ReadTimeoutError)",
        ),
        ({"propagation_seconds": 600}, "S3 does not know the new key after"),
    ],
)
@pytest.mark.usefixtures("impatient")
def test_an_iam_that_fails_leaves_the_old_key_in_force_and_nothing_of_the_new_one(
    rotated: Rotated, user: IamUser, sandbox: Sandbox, told: dict[str, Any], said: str
) -> None:
    sandbox.vendors.conduct("iam", **told)
    message = failed(rotate(rotated))
    sandbox.vendors.conduct("iam", faults=[], propagation_seconds=0)
    assert said in message
    assert key_of(rotated) == user.key
    assert is_one_left(rotated, user)
    assert rotated.is_settled()


def test_a_retirement_that_fails_leaves_the_new_key_in_force_and_is_done_later(
    rotated: Rotated, user: IamUser, sandbox: Sandbox
) -> None:
    allow(rotated, user, grace=QUIET, soak="PT0S")
    sandbox.vendors.conduct("iam", faults=[{"path": "/DeleteAccessKey", "status": 403}])
    message = failed(rotate(rotated))
    assert "The new s3 was put in force and proven. The old one is not retired yet" in message
    assert user.keys() == {user.key[0]: "Inactive", rotated.variables[ID]: "Active"}
    rotated.end_grace("s3")
    completed(rotate(rotated))
    assert is_one_left(rotated, user)
    assert rotated.is_settled()


@pytest.mark.parametrize(
    "order",
    [
        # Between the answer and the file that keeps it: the key is an orphan that nobody can use.
        {"kill_when_called": "tasks.rotator_s3:Kept"},
        {"kill_after_step": "restarting for it"},
        {"kill_after_step": "retiring the old one"},
    ],
)
def test_killed_anywhere_the_next_run_ends_with_one_key(
    rotated: Rotated, user: IamUser, children: Children, order: dict[str, Any]
) -> None:
    allow(rotated, user, grace=QUIET)
    child = children.start(rotated.ledger, "rotate_s3_credentials", **order)
    assert child.wait() is None
    completed(rotate(rotated, emergency=True))
    assert key_of(rotated) != user.key
    assert is_one_left(rotated, user)
    assert rotated.is_settled()
