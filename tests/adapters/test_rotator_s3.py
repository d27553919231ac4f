"""The rotator of S3's keys, against the object store and the double of IAM before it."""

import json
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployments.sandbox.object_store import KEY_ID, KEY_SECRET
from deployments.sandbox.stack import Sandbox
from deployments.sandbox.uploads import BUCKET, MAY, iam_client
from tasks import aws_asking
from tasks.errors import (
    AccessDeniedError,
    ConfigurationError,
    DeadCredentialError,
    RefusedError,
    RunbookError,
    UnreachableError,
)
from tasks.iam_keys import IamKeys
from tasks.profiles import read_profile
from tasks.records.rotation import Kept
from tasks.records.service import ServiceProfile
from tasks.rotator_s3 import DELETE, INACTIVE, S3Rotator
from tests.adapters.iam_user import IamUser, Key, iam_user

ID, SECRET = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"


@pytest.fixture
def user(sandbox: Sandbox) -> Iterator[IamUser]:
    with iam_user(sandbox) as made:
        yield made


@pytest.fixture
def profile(propertypulse: ServiceProfile, user: IamUser, tmp_path: Path) -> ServiceProfile:
    """A service whose env file has the user's key."""
    application = propertypulse.application.model_copy(update={"directory": tmp_path})
    changed = propertypulse.model_copy(
        update={"application": application, "state_directory": tmp_path / "state"}
    )
    write_env(changed, user.key)
    return changed


def write_env(profile: ServiceProfile, key: Key) -> None:
    profile.env_path.write_text(f"{ID}={key[0]}\n{SECRET}={key[1]}\n")


def kept(key: Key) -> Kept:
    return Kept("20260101T000000-abcdef", {ID: key[0], SECRET: key[1]})


def key_of(values: Kept) -> Key:
    return values.value(ID), values.value(SECRET)


def before_of(rotator: S3Rotator) -> dict[str, str]:
    facts = rotator.observe()
    assert facts.refusal is None, facts.refusal
    return facts.provider


def test_a_new_key_is_made_tried_and_the_old_one_ends_in_two_stages(
    profile: ServiceProfile, user: IamUser
) -> None:
    rotator = S3Rotator(profile, user.section(grace="PT0S"))
    facts = rotator.observe()
    assert facts.provider == {user.key[0]: "active"}
    assert [stage.name for stage in facts.stages] == [INACTIVE, DELETE]
    assert user.key[1] not in facts.model_dump_json()
    pending = rotator.make("r", facts.provider)
    assert user.key[1] not in repr(pending)
    assert (rotator.accepts(pending), rotator.accepts(kept(user.key))) == (True, True)
    rotator.exercise(pending, kept(user.key))
    assert user.objects() == []
    for stage, left in ((INACTIVE, {user.key[0]: "Inactive"}), (DELETE, {})):
        for _ in range(2):  # what is done twice is done once
            rotator.retire(stage, pending, kept(user.key))
        assert "InvalidAccessKeyId" in rotator.prove_refused(stage, kept(user.key))
        assert user.keys() == {pending.value(ID): "Active", **left}
    assert user.works(key_of(pending))


def test_it_waits_until_the_new_key_is_known(profile: ServiceProfile, user: IamUser) -> None:
    rotator = S3Rotator(profile, user.section())
    user.sandbox.vendors.conduct("iam", propagation_seconds=1.5)
    began = time.monotonic()
    pending = rotator.make("r", {})
    assert not rotator.accepts(pending)
    rotator.exercise(pending, kept(user.key))
    assert time.monotonic() - began >= 1.5


def test_a_key_that_never_becomes_known_is_an_error_of_its_own(
    profile: ServiceProfile, user: IamUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.rotator_s3.KNOWN_EVERYWHERE_SECONDS", 0.3)
    rotator = S3Rotator(profile, user.section())
    user.sandbox.vendors.conduct("iam", propagation_seconds=600)
    with pytest.raises(UnreachableError, match="does not know the new key"):
        rotator.exercise(rotator.make("r", {}), kept(user.key))


def let_only(sandbox: Sandbox, user: IamUser, *actions: str) -> None:
    """Let the user do no more than these in the bucket."""
    store = sandbox.object_store
    statement = {**MAY["Statement"][0], "Action": actions}  # type: ignore[dict-item]
    policy = json.dumps({**MAY, "Statement": [statement]})
    direct = iam_client(store.endpoint, store.key_id, store.key_secret)
    direct.put_user_policy(UserName=user.name, PolicyName=BUCKET, PolicyDocument=policy)


def test_a_key_that_may_less_than_the_old_one_is_refused_and_one_that_may_as_little_is_not(
    profile: ServiceProfile, user: IamUser, sandbox: Sandbox
) -> None:
    rotator = S3Rotator(profile, user.section())
    with iam_user(sandbox) as narrower:
        let_only(sandbox, narrower, "s3:PutObject", "s3:DeleteObject")
        with pytest.raises(RunbookError, match="may not get, presigned get in the bucket uploads"):
            rotator.exercise(kept(narrower.key), kept(user.key))
        rotator.exercise(kept(narrower.key), kept(narrower.key))
    assert user.objects() == []


def test_a_key_that_may_only_look_is_rotated(
    profile: ServiceProfile, user: IamUser, sandbox: Sandbox
) -> None:
    let_only(sandbox, user, "s3:GetObject", "s3:ListBucket")
    rotator = S3Rotator(profile, user.section())
    rotator.exercise(kept(user.make_key()), kept(user.key))


def test_two_keys_are_refused_with_the_way_out(profile: ServiceProfile, user: IamUser) -> None:
    other = user.make_key()
    rotator = S3Rotator(profile, user.section())
    refusal = rotator.observe().refusal
    assert refusal is not None
    assert f"aws iam delete-access-key --user-name {user.name} --access-key-id {other[0]}." in refusal
    assert "never used" in refusal
    with pytest.raises(RefusedError, match="limit is reached"):
        rotator.make("r", {})
    assert set(user.keys()) == {user.key[0], other[0]}


def test_the_key_of_the_backups_is_never_rotated(profile: ServiceProfile, user: IamUser) -> None:
    vault = user.sandbox.vault
    write_env(profile, (vault.read(KEY_ID), vault.read(KEY_SECRET)))
    terms = user.section()
    assert "credentials.s3 uses" in str(S3Rotator(profile, terms).observe().refusal)
    elsewhere = user.sandbox.state / "another-admin"
    elsewhere.write_text("AKIAANOTHERADMIN0000")
    elsewhere.chmod(0o600)
    admin = terms.model_copy(update={"admin_key_id": f"file:{elsewhere}"})
    rotator = S3Rotator(profile, admin)
    rotator._iam = IamKeys(terms)
    assert "the backup's destination uses" in str(rotator.observe().refusal)


def test_the_key_of_another_services_backups_is_never_rotated(
    profile: ServiceProfile, user: IamUser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = user.sandbox.state / "services"
    text = (services / "invoice.yaml").read_text()
    (tmp_path / "services").mkdir()
    (tmp_path / "key-id").write_text(user.key[0])
    (tmp_path / "key-id").chmod(0o600)
    own = read_profile(services / "invoice.yaml").backup.destination.access_key_id
    changed = text.replace(str(own), f"file:{tmp_path / 'key-id'}")
    assert changed != text
    (tmp_path / "services" / "invoice.yaml").write_text(changed)
    monkeypatch.setenv("RUNBOOK_SERVICES", str(tmp_path / "services"))
    refusal = S3Rotator(profile, user.section()).observe().refusal
    assert "the backup's destination of invoice uses" in str(refusal)


def test_a_key_of_another_user_is_refused_and_a_dead_one_is_not(
    profile: ServiceProfile, user: IamUser
) -> None:
    with iam_user(user.sandbox) as another:
        write_env(profile, another.key)
        assert "of another user" in str(S3Rotator(profile, user.section()).observe().refusal)
    rotator = S3Rotator(profile, user.section())
    assert rotator.observe().refusal is None
    profile.env_path.write_text(f"{ID}={user.key[0]}\n")
    assert f"{SECRET} is not set" in str(rotator.observe().refusal)


def test_a_key_whose_answer_never_came_is_found_and_deleted(
    profile: ServiceProfile, user: IamUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws_asking, "READ_SECONDS", 0.5)
    rotator = S3Rotator(profile, user.section())
    before = before_of(rotator)
    user.sandbox.vendors.conduct("iam", faults=[{"path": "/CreateAccessKey", "status": None, "works": True}])
    with pytest.raises(UnreachableError, match="IAM did not answer"):
        rotator.make("r", before)
    assert len(user.keys()) == 2
    rotator.discard("r", before, None, datetime.now(UTC))
    assert user.keys() == {user.key[0]: "Active"}


@pytest.mark.parametrize("making", [timedelta(minutes=-5), timedelta(minutes=5), None])
def test_a_key_that_was_not_made_when_ours_was_ordered_is_named_and_left(
    profile: ServiceProfile,
    user: IamUser,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    making: timedelta | None,
) -> None:
    """A person makes one after a kill, and puts it into the env file later."""
    monkeypatch.setattr("tasks.rotator_s3.get_run_logger", lambda: logging.getLogger("a run"))
    rotator = S3Rotator(profile, user.section())
    before = before_of(rotator)
    theirs = user.make_key()
    rotator.discard("r", before, None, None if making is None else datetime.now(UTC) + making)
    assert set(user.keys()) == {user.key[0], theirs[0]}
    assert f"it is left: {theirs[0]} (active, made" in caplog.text


def test_a_key_that_somebody_else_made_and_used_meanwhile_is_not_deleted(
    profile: ServiceProfile, user: IamUser
) -> None:
    rotator = S3Rotator(profile, user.section())
    before = before_of(rotator)
    theirs = user.make_key()
    assert user.works(theirs)
    rotator.discard("r", before, None, datetime.now(UTC))
    assert set(user.keys()) == {user.key[0], theirs[0]}


def test_discarding_removes_the_key_and_the_object_and_never_the_key_of_the_env_file(
    profile: ServiceProfile, user: IamUser
) -> None:
    rotator = S3Rotator(profile, user.section())
    before = before_of(rotator)
    pending = rotator.make("r", before)
    place = f"{user.name}/{profile.name}"
    user.s3(user.key).put_object(Bucket=BUCKET, Key=place, Body=b"left behind by a kill")
    for _ in range(2):
        rotator.discard("r", before, pending)
    assert user.keys() == {user.key[0]: "Active"}
    assert user.objects() == []
    rotator.discard("r", before, kept(user.key))
    assert user.keys() == {user.key[0]: "Active"}


def test_the_old_key_stays_while_it_is_used_and_when_somebody_made_it_active_again(
    profile: ServiceProfile, user: IamUser
) -> None:
    old = kept(user.key)
    assert S3Rotator(profile, user.section(grace="PT1H")).find_use(INACTIVE, old) is None
    assert user.works(user.key)
    assert "it was used at" in str(S3Rotator(profile, user.section(grace="PT1H")).find_use(INACTIVE, old))
    time.sleep(0.01)
    quiet = user.section().model_copy(update={"grace": timedelta(milliseconds=5)})
    assert S3Rotator(profile, quiet).find_use(INACTIVE, old) is None
    assert "active again" in str(S3Rotator(profile, quiet).find_use(DELETE, old))
    user.iam.update_access_key(UserName=user.name, AccessKeyId=user.key[0], Status="Inactive")
    assert S3Rotator(profile, quiet).find_use(DELETE, old) is None


def test_a_key_that_is_in_force_again_is_not_retired_and_one_that_works_is_not_proven_refused(
    profile: ServiceProfile, user: IamUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.rotator_s3._GONE_EVERYWHERE_SECONDS", 0.3)
    rotator = S3Rotator(profile, user.section())
    with pytest.raises(RefusedError, match="is the old key again"):
        rotator.retire(INACTIVE, kept(user.key), kept(user.key))
    with pytest.raises(RefusedError, match="still accepts the old key"):
        rotator.prove_refused(INACTIVE, kept(user.key))


def test_iam_out_of_order_too_busy_or_silent_is_said_in_one_sentence(
    profile: ServiceProfile, user: IamUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotator = S3Rotator(profile, user.section())
    for status in (429, 500):
        user.sandbox.vendors.conduct("iam", faults=[{"path": "/CreateAccessKey", "status": status}])
        with pytest.raises(UnreachableError, match="too busy or out of order"):
            rotator.make("r", {})
    assert user.keys() == {user.key[0]: "Active"}
    monkeypatch.setattr(aws_asking, "SECONDS", 0.5)
    user.sandbox.vendors.conduct("iam", mode="hanging")
    with pytest.raises(UnreachableError, match=r"within 0.5 s"):
        IamKeys(user.section()).list_keys()
    user.sandbox.vendors.conduct("iam", mode="up")


def test_what_is_wrong_with_the_admin_or_the_user_is_said(
    profile: ServiceProfile, user: IamUser, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="no user nobody: correct"):
        S3Rotator(profile, user.section(user="nobody")).observe()
    (tmp_path / "id").write_text(user.key[0])
    (tmp_path / "secret").write_text(user.key[1])
    for file in (tmp_path / "id", tmp_path / "secret"):
        file.chmod(0o600)
    narrow = user.section(admin_key_id=f"file:{tmp_path / 'id'}", admin_secret=f"file:{tmp_path / 'secret'}")
    with pytest.raises(AccessDeniedError, match="knows the key of credentials"):
        S3Rotator(profile, narrow).observe()
    (tmp_path / "secret").write_text("wrong")
    with pytest.raises(DeadCredentialError, match="does not know the key of credentials") as caught:
        S3Rotator(profile, user.section(admin_secret=f"file:{tmp_path / 'secret'}")).observe()
    assert "wrong" not in str(caught.value)


def test_whatever_the_store_lacks_beside_a_key_it_knows_the_key(
    profile: ServiceProfile, user: IamUser
) -> None:
    assert S3Rotator(profile, user.section(bucket="no-such-bucket")).accepts(kept(user.key))
    assert S3Rotator(profile, user.section(bucket="backups")).accepts(kept(user.key))
    assert not S3Rotator(profile, user.section()).accepts(kept((user.key[0], "wrong")))
    assert not S3Rotator(profile, user.section()).accepts(kept(("", "")))
    away = user.section(endpoint_url="http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match="did not answer"):
        S3Rotator(profile, away).accepts(kept(user.key))
