"""The walk: each credential, each step, all that may happen there; then one works and nothing is left.

`make walk` takes every step. The suite takes some, so that it stays quick: every task of each credential's
rotation is somewhere in a kill test of its own runbook.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from deployments.sandbox.stack import Sandbox
from tasks.fingerprints import prove_fingerprints
from tests.proxy import Proxy
from tests.runbooks.conftest import Children, Ledgers
from tests.runbooks.rotation_providers import PROVIDERS, Database, Provider
from tests.runbooks.rotation_walking import Rotated, make_rotated
from tests.runbooks.walking import is_healthy
from tests.thoroughness import WHOLE

# A rotation has about so many tasks; it is killed before one begins, and so after the one before has ended.
TASKS = range(2, 38)
KILLED = [(name, number) for name in PROVIDERS for number in TASKS]
# About the middle of each, where the new one is made, written or proven.
SOME_KILLED = [(name, 14 + 2 * (place % 4)) for place, name in enumerate(PROVIDERS)]
SHORT = {"tasks.rotator_stripe_key:_KNOWN_EVERYWHERE_SECONDS": 0.3}


@pytest.fixture(scope="module")
def rotated(
    sandbox: Sandbox, prefect_server: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rotated]:
    with pytest.MonkeyPatch.context() as environment:
        maker = Ledgers(sandbox, tmp_path_factory.mktemp("walk"), environment)
        yield make_rotated(maker, sandbox)
        maker.remove()


@pytest.fixture
def provider(request: pytest.FixtureRequest, rotated: Rotated, sandbox: Sandbox) -> Iterator[Provider]:
    """The credential, fresh: one value that works, and an application that has it."""
    with ExitStack() as held:
        made = PROVIDERS[request.param](rotated, sandbox, held)
        made.begin()
        rotated.ledger.settings["credentials"] = made.terms()
        rotated.ledger.change()
        sandbox.pm2.run("restart", rotated.ledger.profile.application.process_name)
        yield made
        if made.vendor:
            sandbox.vendors.conduct(made.vendor, faults=[])
        # What a case that failed has left is none of the next one's.
        for left in (*rotated.folder.glob("*"), *rotated.folder.parent.glob("journals/*.jsonl")):
            left.unlink()


def run(provider: Provider, children: Children, **order: Any) -> dict[str, str] | None:
    """Run the rotation in a process of its own; None if that was killed."""
    rotated = provider.rotated
    parameters = {"service": rotated.ledger.name, **provider.parameters}
    order = {"retry_seconds": 0, "set": SHORT, **order}
    return children.start(rotated.ledger, provider.flow, parameters=parameters, **order).wait(120)


def must_end_well(provider: Provider, children: Children, before: dict[str, str]) -> None:
    """Start it again, as an operator does; then the promise must hold."""
    rotated = provider.rotated
    answer = run(provider, children)
    assert answer is not None
    assert answer["type"] == "COMPLETED", answer["message"]
    now = rotated.variables
    assert is_healthy(rotated.ledger)
    assert rotated.is_settled()
    assert now != before
    assert provider.accepts(now)
    assert not provider.accepts(before)
    assert provider.count() == 1
    proof = prove_fingerprints(
        rotated.ledger.profile, [name for name in now if now[name] != before.get(name)]
    )
    assert proof is not None
    must_be_told_nowhere(answer, now, before)


def must_be_told_nowhere(answer: dict[str, str], *values: dict[str, str]) -> None:
    secrets = {value for some in values for value in some.values() if len(value) > 20}
    assert not [secret for secret in secrets if secret in answer["message"] + answer["log"]]


@pytest.mark.parametrize(("provider", "number"), KILLED if WHOLE else SOME_KILLED, indirect=["provider"])
def test_killed_before_any_task_it_ends_well_when_it_is_started_again(
    provider: Provider, children: Children, number: int
) -> None:
    before = provider.rotated.variables
    ended = run(provider, children, kill_before_task=number)
    if ended is not None:
        # It has fewer tasks than that, and did them all.
        assert ended["type"] == "COMPLETED", ended["message"]
        assert number > max(TASKS) // 2
        return
    # A database's only user has one password: between its change and the restart new connections are refused.
    assert is_healthy(provider.rotated.ledger) or type(provider) is Database
    must_end_well(provider, children, before)


BEFALLING = [
    pytest.param(name, fault, id=f"{name}: {method} {path} {what}")
    for name, provider in PROVIDERS.items()
    for method, path in provider.requests
    for what, fault in (
        ("answers 500", {"method": method, "path": path, "status": 500, "times": 3}),
        ("refuses", {"method": method, "path": path, "status": 403, "times": 3}),
        ("works and does not answer", {"method": method, "path": path, "status": None, "works": True}),
    )
]


@pytest.mark.parametrize(
    ("provider", "fault"), BEFALLING if WHOLE else BEFALLING[4::10], indirect=["provider"]
)
def test_whatever_a_provider_answers_it_ends_well_when_it_is_started_again(
    provider: Provider, children: Children, fault: dict[str, Any]
) -> None:
    before = provider.rotated.variables
    provider.sandbox.vendors.conduct(provider.vendor, faults=[fault])
    ended = run(provider, children)
    assert ended is not None
    must_be_told_nowhere(ended, before, provider.rotated.variables)
    assert is_healthy(provider.rotated.ledger)
    provider.sandbox.vendors.conduct(provider.vendor, faults=[])
    if ended["type"] == "COMPLETED":
        # It asked again by itself.
        before = provider.rotated.variables if provider.accepts(before) else before
        assert provider.accepts(provider.rotated.variables)
        assert provider.count() == 1
        return
    must_end_well(provider, children, before)


@pytest.mark.parametrize("provider", PROVIDERS if WHOLE else list(PROVIDERS)[::3], indirect=True)
def test_an_application_that_does_not_come_back_with_the_new_one_loses_nothing(
    provider: Provider, children: Children
) -> None:
    rotated, before = provider.rotated, provider.rotated.variables
    as_it_was = (rotated.ledger.application / ".env").read_text()
    check = f"if (require('fs').readFileSync('.env', 'utf8') !== {as_it_was!r}) process.exit(3);"
    with rotated.beginning_with(check):
        ended = run(provider, children)
    assert ended is not None
    assert ended["type"] == "FAILED"
    must_end_well(provider, children, before)


@pytest.mark.parametrize("lost", ["order", "answer"])
@pytest.mark.parametrize("provider", ["database-password", "database-password, two users"], indirect=True)
def test_a_password_whose_order_or_answer_is_lost_on_the_way_ends_well_when_it_is_started_again(
    provider: Provider, children: Children, proxies: Callable[..., Proxy], lost: str
) -> None:
    ledger, before = provider.rotated.ledger, provider.rotated.variables
    reference = str(ledger.profile.database.admin_url)
    admin = Path(reference.removeprefix("file:")).read_text().strip()
    port = urlsplit(admin).port
    assert port is not None
    lose: list[str] = [lost]
    met: list[str] = []

    def on_data(data: bytes, from_client: bool) -> bool:
        if from_client and lose and b"ALTER ROLE" in data:
            met.append(lose.pop())
            return lost == "answer"
        if not from_client and met == ["answer"]:
            met.append("lost")
            return False
        return True

    proxied = ledger.folder / "admin-url-by-proxy"
    proxied.touch(mode=0o600)
    proxied.write_text(admin.replace(f":{port}/", f":{proxies(port, on_data).port}/"))
    ledger.change(database={"admin_url": f"file:{proxied}"})
    ended = run(provider, children)
    ledger.change(database={"admin_url": reference})
    assert met
    assert ended is not None
    assert ended["type"] == "FAILED"
    must_end_well(provider, children, before)
