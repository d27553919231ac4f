"""SendGrid's rotator against the double: what it refuses, with the way out, and what it never deletes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sendgrid import SendGridAPIClient  # type: ignore[import-untyped]

from deployments.sandbox.stack import Sandbox
from tasks.errors import DeadCredentialError, RefusedError, RunbookError, UnreachableError
from tasks.records.credential_care import Credentials, SendGridKey
from tasks.records.rotation import Kept
from tasks.records.service import ServiceProfile
from tasks.rotator_sendgrid import SendGridRotator

VARIABLE = "SENDGRID_API_KEY"
ROTATION = "20261122T110000-abcdef"


@pytest.fixture
def manager(sandbox: Sandbox) -> Iterator[Any]:
    at = f"{sandbox.endpoints.vendors}/sendgrid"
    client = SendGridAPIClient(sandbox.vault.read("sendgrid-manager-key"), host=at).client
    before = {one["api_key_id"] for one in client.api_keys.get().to_dict["result"]}
    yield client
    for identity in {one["api_key_id"] for one in client.api_keys.get().to_dict["result"]} - before:
        client.api_keys._(identity).delete()


@pytest.fixture
def make_key(manager: Any) -> Callable[..., str]:
    def make(*scopes: str, name: str = "ledger") -> str:
        return str(manager.api_keys.post(request_body={"name": name, "scopes": scopes}).to_dict["api_key"])

    return make


@pytest.fixture
def open_rotator(
    sandbox: Sandbox, propertypulse: ServiceProfile, tmp_path: Path
) -> Callable[..., SendGridRotator]:
    """A maker of rotators of a service whose env file has this key."""

    def make(key: str, manager_key: str = "", escalation_key: str = "") -> SendGridRotator:
        (tmp_path / ".env").write_text(f"{VARIABLE}={key}\n")
        terms = SendGridKey(
            manager_key=refer(tmp_path, manager_key, sandbox.vault.path("sendgrid-manager-key")),
            sender="app@example.com",
            url=f"{sandbox.endpoints.vendors}/sendgrid",
        )
        own = refer(tmp_path, escalation_key, sandbox.vault.path("mail-key"))
        profile = propertypulse.model_copy(
            update={
                "application": propertypulse.application.model_copy(update={"directory": tmp_path}),
                "credentials": Credentials(sendgrid_key=terms),
                "escalation": propertypulse.escalation.model_copy(update={"sendgrid_key": own}),
                "state_directory": tmp_path / "state",
            }
        )
        return SendGridRotator(profile, terms)

    return make


def refer(folder: Path, key: str, otherwise: Path) -> str:
    if not key:
        return f"file:{otherwise}"
    file = folder / f"key-{key[3:9]}"
    file.touch(mode=0o600)
    file.write_text(key)
    return f"file:{file}"


def test_a_key_that_the_escalation_sends_with_or_that_makes_others_is_refused(
    make_key: Callable[..., str], open_rotator: Callable[..., SendGridRotator]
) -> None:
    key = make_key("mail.send", "api_keys.read")
    assert open_rotator(key).observe().refusal is None
    said = str(open_rotator(key, escalation_key=key).observe().refusal)
    assert "is the very key that the escalation sends with (file:" in said
    assert "make one of its own" in said
    assert "the very key that makes others" in str(open_rotator(key, manager_key=key).observe().refusal)
    assert key.split(".")[2] not in said


def test_what_cannot_be_told_or_given_is_refused_with_the_way_out(
    make_key: Callable[..., str], open_rotator: Callable[..., SendGridRotator]
) -> None:
    assert "is no SendGrid key" in str(open_rotator("secret").observe().refusal)
    unknown = str(open_rotator("SG.unknown-id.secret").observe().refusal)
    assert "no key with the id of SENDGRID_API_KEY" in unknown
    key, narrow = make_key("mail.send", "stats.read"), make_key("api_keys.read", "mail.send")
    refused = str(open_rotator(key, manager_key=narrow).observe().refusal)
    assert "the manager key cannot give stats.read" in refused


def test_a_hundred_keys_are_too_many_and_none_is_deleted_to_make_room(
    manager: Any, make_key: Callable[..., str], open_rotator: Callable[..., SendGridRotator]
) -> None:
    key = make_key("mail.send")
    for number in range(100 - len(manager.api_keys.get().to_dict["result"])):
        make_key("mail.send", name=f"other {number}")
    assert "SendGrid has 100 keys already" in str(open_rotator(key).observe().refusal)
    with pytest.raises(RunbookError, match=r"\(403\)"):
        open_rotator(key).make(ROTATION, {})
    assert len(manager.api_keys.get().to_dict["result"]) == 100


def test_only_keys_with_the_rotations_id_are_discarded(
    manager: Any, make_key: Callable[..., str], open_rotator: Callable[..., SendGridRotator]
) -> None:
    key = make_key("mail.send", "stats.read", name="ledger rotated 20250101T000000-000000")
    rotator = open_rotator(key)
    before = rotator.observe().provider
    make_key("mail.send", name="ledger rotated 20261122T110000-fedcba")
    rotator.make(ROTATION, before)
    kept = rotator.make(ROTATION, before)
    names = sorted(one["name"] for one in manager.api_keys.get().to_dict["result"] if "ledger" in one["name"])
    assert names == [
        "ledger rotated 20250101T000000-000000",
        f"ledger rotated {ROTATION}",
        "ledger rotated 20261122T110000-fedcba",
    ]
    rotator.exercise(kept, Kept(ROTATION, {VARIABLE: key}))
    rotator.discard(ROTATION, before, kept)
    assert not rotator.accepts(kept)
    assert rotator.accepts(Kept(ROTATION, {VARIABLE: key}))


def test_a_new_key_that_may_less_than_the_old_one_is_told(
    manager: Any, make_key: Callable[..., str], open_rotator: Callable[..., SendGridRotator]
) -> None:
    rotator = open_rotator(make_key("mail.send", "stats.read"))
    kept = rotator.make(ROTATION, {})
    manager.api_keys._(kept.facts["key_id"]).put(request_body={"name": "n", "scopes": ["mail.send"]})
    with pytest.raises(RunbookError, match=r"the new SendGrid key lacks stats\.read\."):
        rotator.exercise(kept, kept)


def test_the_old_key_is_deleted_once_and_one_that_is_still_accepted_is_told(
    make_key: Callable[..., str],
    open_rotator: Callable[..., SendGridRotator],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tasks.rotator_sendgrid._GONE_EVERYWHERE_SECONDS", 0.0)
    old, new = (Kept(ROTATION, {VARIABLE: make_key("mail.send")}) for _ in range(2))
    rotator = open_rotator(new.value(VARIABLE))
    with pytest.raises(RefusedError, match="SendGrid still accepts the old key"):
        rotator.prove_refused("", old)
    # The one in force is never deleted as the old one.
    rotator.retire("", new, new)
    assert rotator.accepts(new)
    for _ in range(2):
        rotator.retire("", new, old)
    assert rotator.prove_refused("", old) == "SendGrid refuses the old key (401)."


def test_a_manager_key_that_is_dead_is_named_by_its_field(
    make_key: Callable[..., str], open_rotator: Callable[..., SendGridRotator]
) -> None:
    with pytest.raises(DeadCredentialError, match=r"credentials\.sendgrid_key\.manager_key \(401\)"):
        open_rotator(make_key("mail.send"), manager_key="SG.dead-key.secret").observe()


def test_an_answer_of_a_proxy_with_a_number_of_its_own_is_one_sentence(
    make_key: Callable[..., str], open_rotator: Callable[..., SendGridRotator], sandbox: Sandbox
) -> None:
    rotator = open_rotator(make_key("mail.send"))
    sandbox.vendors.conduct("sendgrid", faults=[{"method": "GET", "path": "/v3/api_keys", "status": 520}])
    try:
        with pytest.raises(UnreachableError, match=r"^SendGrid answered 520\.$"):
            rotator.observe()
    finally:
        sandbox.vendors.conduct("sendgrid", faults=[])
