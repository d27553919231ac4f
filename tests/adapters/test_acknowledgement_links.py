"""A link is as good as its signature, its time, and its first use."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest

from tasks.acknowledgement_links import PATH, check_token, make_token
from tasks.contact_links import make_contact_link
from tasks.errors import AlreadyExistsError, ConfigurationError, RefusedError
from tasks.records.escalation import AcknowledgementLink
from tasks.records.service import ServiceProfile

NOW = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
LINK = AcknowledgementLink(
    id="0123456789abcdef",
    escalation="20260301T030000Z-abcdef",
    service="invoice",
    level="database",
    contact="Database administrator",
    expires=NOW + timedelta(hours=1),
)
TOKEN = make_token(LINK, "the key")


def never(link: str) -> bool:
    return False


def test_a_link_says_who_was_told_of_what() -> None:
    assert check_token(TOKEN, "the key", NOW, never) == LINK


def forged() -> list[str]:
    content, _, signature = TOKEN.partition(".")
    document = json.loads(base64.urlsafe_b64decode(content + "=="))
    document["escalation"] = "another"
    other = base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")
    return [
        "",
        ".",
        content,
        f"{content}.",
        f"{other}.{signature}",
        TOKEN[:-1],
        f"{TOKEN}x",
        f"{content}.größe",
        make_token(LINK, "another key"),
    ]


@pytest.mark.parametrize("token", forged())
def test_a_forged_link_is_refused(token: str) -> None:
    with pytest.raises(RefusedError, match="not one of ours"):
        check_token(token, "the key", NOW, never)


def test_a_link_expires() -> None:
    check_token(TOKEN, "the key", LINK.expires - timedelta(seconds=1), never)
    with pytest.raises(RefusedError, match="has expired: acknowledge in the UI, by acknowledge/invoice"):
        check_token(TOKEN, "the key", LINK.expires, never)


def test_a_link_is_used_once() -> None:
    with pytest.raises(AlreadyExistsError, match="was used before"):
        check_token(TOKEN, "the key", NOW, {LINK.id}.__contains__)


def test_a_link_leads_to_the_receiver_and_each_is_another(
    invoice: ServiceProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINK_KEY", "the key")
    expires = LINK.expires

    def link(reference: str | None, url: str | None) -> str | None:
        care = invoice.escalation.model_copy(update={"receiver_url": url, "link_key": reference})
        profile = invoice.model_copy(update={"escalation": care})
        return make_contact_link(profile, LINK.escalation, "database", LINK.contact, expires)

    found = [link("env:LINK_KEY", "https://alerts.example.com/") for _ in range(2)]
    checked = []
    for one in found:
        address, _, token = str(one).partition("?token=")
        assert address == f"https://alerts.example.com{PATH}"
        checked.append(check_token(token, "the key", NOW, never))
    assert checked[0].id != checked[1].id
    assert checked[0].model_copy(update={"id": LINK.id}) == LINK
    assert link(None, None) is None
    with pytest.raises(ConfigurationError, match="UNSET"):
        link("env:UNSET", "https://alerts.example.com")
