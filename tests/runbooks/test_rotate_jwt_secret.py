"""rotate-jwt-secret: who is logged in stays so where the application allows it, and the old secret dies."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
import jwt
import pytest
from prefect.client.schemas.objects import State

from deployments.sandbox.stack import Sandbox
from flows.rotate_jwt_secret import rotate_jwt_secret
from tasks.backup_pause import holding_off_backups
from tasks.rotation_files import read_open
from tests.runbooks.conftest import Children, Ledgers, artifacts_of, completed, failed
from tests.runbooks.rotation_walking import Rotated, make_rotated
from tests.runbooks.walking import events, is_healthy
from tests.thoroughness import WHOLE

OLD = "s" * 64
JWT, BESIDE = "JWT_SECRET", "JWT_SECRET_PREVIOUS"


@pytest.fixture(scope="module")
def operated(
    sandbox: Sandbox, prefect_server: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rotated]:
    """One application for all: each test begins with the old secret and nothing under way."""
    with pytest.MonkeyPatch.context() as environment:
        maker = Ledgers(sandbox, tmp_path_factory.mktemp("jwt"), environment)
        yield make_rotated(maker, sandbox, JWT_SECRET=OLD)
        maker.remove()


@pytest.fixture
def rotated(operated: Rotated, sandbox: Sandbox) -> Rotated:
    allow(operated, previous_variable=BESIDE, token_life="PT1H")
    operated.set_variables(JWT_SECRET=OLD, JWT_SECRET_PREVIOUS=None)
    sandbox.pm2.run("restart", operated.ledger.profile.application.process_name)
    for left in operated.folder.glob("*") if operated.folder.exists() else ():
        left.unlink()
    (operated.ledger.folder / "state" / "ledger" / "trail.jsonl").unlink(missing_ok=True)
    return operated


def allow(rotated: Rotated, **terms: Any) -> None:
    terms = {"protected_url": f"{rotated.at}/me", **terms}
    rotated.ledger.settings["credentials"] = {"jwt_secret": terms}
    rotated.ledger.change()


def rotate(rotated: Rotated, **parameters: Any) -> State[Any]:
    return cast("State[Any]", rotate_jwt_secret(rotated.ledger.name, **parameters, return_state=True))


def is_let_in(rotated: Rotated, secret: str) -> bool:
    token = jwt.encode({"sub": "x", "exp": datetime.now(UTC) + timedelta(minutes=5)}, secret, "HS256")
    answer = httpx.get(f"{rotated.at}/me", headers={"Authorization": f"Bearer {token}"})
    return answer.status_code == httpx.codes.OK


def test_tokens_of_before_hold_until_the_grace_is_over_and_are_refused_then(rotated: Rotated) -> None:
    state = rotate(rotated)
    new = rotated.variables[JWT]
    assert new != OLD
    assert len(new) == 43
    assert rotated.variables[BESIDE] == OLD
    assert (is_let_in(rotated, new), is_let_in(rotated, OLD), is_let_in(rotated, "x" * 64)) == (
        True,
        True,
        False,
    )
    assert "The new jwt-secret is in force and proven." in completed(state)
    assert "Start rotate-jwt-secret again after" in completed(state)
    assert rotated.kept() == {"jwt-secret.previous"}

    assert "so nothing was done" in completed(rotate(rotated))
    rotated.end_grace("jwt-secret")
    said = completed(rotate(rotated))
    assert said.endswith("A token signed with the old secret is refused.")
    assert BESIDE not in rotated.variables
    assert (is_let_in(rotated, new), is_let_in(rotated, OLD)) == (True, False)
    assert rotated.is_settled()
    assert rotated.history() == ["rotated", "retired"]


def test_without_a_previous_variable_everybody_is_logged_out_and_the_plan_says_so(rotated: Rotated) -> None:
    allow(rotated)
    assert (
        "Everybody who is logged in is logged out"
        in artifacts_of(rotate(rotated, dry_run=True))["rotate-jwt-secret-plan-ledger"]
    )
    assert rotated.variables[JWT] == OLD
    completed(rotate(rotated))
    assert not is_let_in(rotated, OLD)
    assert is_let_in(rotated, rotated.variables[JWT])
    assert rotated.is_settled()


def test_an_emergency_ends_the_grace_of_an_earlier_rotation_and_its_own(rotated: Rotated) -> None:
    completed(rotate(rotated))
    first = rotated.variables[JWT]
    completed(rotate(rotated, emergency=True))
    now = rotated.variables[JWT]
    assert len({OLD, first, now}) == 3
    assert [is_let_in(rotated, secret) for secret in (OLD, first, now)] == [False, False, True]
    assert rotated.history() == ["rotated", "retired", "rotated", "retired"]
    assert rotated.is_settled()


def test_an_old_secret_that_a_person_put_back_is_not_retired_and_an_emergency_replaces_it(
    rotated: Rotated,
) -> None:
    completed(rotate(rotated))
    made = rotated.variables[JWT]
    rotated.set_variables(JWT_SECRET=OLD)
    rotated.end_grace("jwt-secret")
    said = failed(rotate(rotated))
    assert "is the old one again, so it is not retired: put the new one there, or" in said
    assert rotated.variables[BESIDE] == OLD

    said = completed(rotate(rotated, emergency=True))
    assert "The secret of the rotation before is in use nowhere: the old one was in force again." in said
    now = rotated.variables[JWT]
    assert [is_let_in(rotated, secret) for secret in (OLD, made, now)] == [False, False, True]
    assert rotated.history() == ["rotated", "undone", "rotated", "retired"]
    assert rotated.is_settled()


def not_starting_with_a_new_one(rotated: Rotated) -> AbstractContextManager[None]:
    check = f"if (require('fs').readFileSync('.env').includes('{BESIDE}')) process.exit(3);"
    return rotated.beginning_with(check)


def test_a_secret_that_the_application_does_not_start_with_is_taken_back(rotated: Rotated) -> None:
    with not_starting_with_a_new_one(rotated):
        said = failed(rotate(rotated))
    assert said.endswith("The old jwt-secret is in force, and nothing is left of the new one.")
    assert rotated.variables == {**rotated.variables, JWT: OLD}
    assert is_let_in(rotated, OLD)
    assert rotated.is_settled()
    assert rotated.history() == ["undone"]


def test_killed_when_an_undo_had_wiped_what_was_kept_the_next_run_ends_well(
    rotated: Rotated, children: Children
) -> None:
    with not_starting_with_a_new_one(rotated):
        child = children.start(
            rotated.ledger, "rotate_jwt_secret", kill_when_called="flows.rotation_applying:record_rotation"
        )
        assert child.wait() is None
    assert not rotated.kept()
    assert rotated.variables == {**rotated.variables, JWT: OLD}

    completed(rotate(rotated, emergency=True))
    assert (is_let_in(rotated, rotated.variables[JWT]), is_let_in(rotated, OLD)) == (True, False)
    assert rotated.history() == ["undone", "rotated", "retired"]
    assert rotated.is_settled()


def test_a_run_that_was_to_finish_a_rotation_begins_no_other(rotated: Rotated) -> None:
    completed(rotate(rotated))
    found = read_open(rotated.ledger.profile, "jwt-secret")
    assert found is not None
    rotated.end_grace("jwt-secret")
    assert "is refused" in completed(rotate(rotated, finish=found.rotation))
    now = rotated.variables
    said = completed(rotate(rotated, finish=found.rotation))
    assert said == f"ledger: nothing is left to do of the rotation {found.rotation}."
    assert rotated.variables == now


def overtaken(monkeypatch: pytest.MonkeyPatch, where: str, other: Callable[[], object]) -> None:
    """Let another run come first while one waits for its turn."""

    @contextmanager
    def wait(*told: Any) -> Iterator[None]:
        monkeypatch.undo()
        other()
        with holding_off_backups(*told):
            yield

    monkeypatch.setattr(where, wait)


def test_of_two_runs_that_go_on_with_a_rotation_the_second_finds_nothing_left(
    rotated: Rotated, monkeypatch: pytest.MonkeyPatch
) -> None:
    completed(rotate(rotated))
    rotated.end_grace("jwt-secret")
    overtaken(monkeypatch, "flows.retiring.holding_off_backups", lambda: completed(rotate(rotated)))
    now = rotated.variables
    assert "Another run ended the rotation" in completed(rotate(rotated))
    assert rotated.variables == {name: value for name, value in now.items() if name != BESIDE}
    assert rotated.history() == ["rotated", "retired"]
    assert rotated.is_settled()


def test_a_grace_that_began_anew_meanwhile_is_not_ended_by_who_waited(
    rotated: Rotated, monkeypatch: pytest.MonkeyPatch
) -> None:
    completed(rotate(rotated))
    rotated.end_grace("jwt-secret")

    def end_and_begin_anew() -> None:
        completed(rotate(rotated))
        completed(rotate(rotated))

    overtaken(monkeypatch, "flows.retiring.holding_off_backups", end_and_begin_anew)
    assert "Another run ended the rotation" in completed(rotate(rotated))
    assert is_let_in(rotated, rotated.variables[BESIDE])
    assert rotated.kept() == {"jwt-secret.previous"}
    assert rotated.history() == ["rotated", "retired", "rotated"]


def test_one_that_somebody_changed_meanwhile_is_left_as_it_is(rotated: Rotated, children: Children) -> None:
    child = children.start(rotated.ledger, "rotate_jwt_secret", kill_after_step="testing it")
    assert child.wait() is None
    rotated.set_variables(JWT_SECRET="t" * 64)
    completed(rotate(rotated))
    assert rotated.variables[BESIDE] == "t" * 64
    assert rotated.history() == ["undone", "rotated"]
    trail = (rotated.ledger.folder / "state" / "ledger" / "trail.jsonl").read_text()
    assert "meanwhile is accepted, and stays" in trail
    assert "The old jwt-secret is in force" not in trail


@pytest.mark.parametrize("number", range(2, 11) if WHOLE else [3, 6, 10])
def test_killed_after_a_line_of_the_journal_the_next_run_ends_with_one_secret(
    rotated: Rotated, children: Children, number: int
) -> None:
    child = children.start(rotated.ledger, "rotate_jwt_secret", kill_after_journal=number)
    assert child.wait() is None
    completed(rotate(rotated, emergency=True))
    now = rotated.variables[JWT]
    assert is_healthy(rotated.ledger)
    assert is_let_in(rotated, now)
    assert not is_let_in(rotated, OLD)
    assert rotated.is_settled()
    assert "began" in events(rotated.ledger)
