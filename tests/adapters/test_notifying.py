"""People are told by whatever works, within a limit, and what failed is said without a secret."""

from collections.abc import Iterator
from pathlib import Path
from socket import create_server
from typing import Any

import pytest

from deployments.doctor_contacts import examine_contacts
from deployments.sandbox.stack import Sandbox
from tasks.errors import ConfigurationError
from tasks.notifying import read_scopes, tell
from tasks.records.escalation import Message, Told
from tasks.records.escalation_care import Contact
from tasks.records.service import ServiceProfile

MESSAGE = Message(subject="It is down", body="Come at once.")


@pytest.fixture
def silent() -> Iterator[str]:
    """Where somebody listens who never answers."""
    with create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def make_channel(tmp_path: Path) -> Any:
    def write(url: str) -> str:
        file = tmp_path / f"channel-{len(list(tmp_path.iterdir()))}"
        file.touch(mode=0o600)
        file.write_text(url)
        return f"file:{file}"

    return write


def contact_of(*channels: str, email: str | None = "ada@example.com") -> Contact:
    return Contact(name="Ada", channels=channels, email=email)


def with_key(profile: ServiceProfile, **care: Any) -> ServiceProfile:
    return profile.model_copy(update={"escalation": profile.escalation.model_copy(update=care)})


def ask(profile: ServiceProfile, contact: Contact, seconds: float = 10) -> Told:
    return tell.fn(profile, contact, MESSAGE, seconds)


def test_the_first_channel_that_works_is_used_and_no_other(invoice: ServiceProfile, sandbox: Sandbox) -> None:
    pager = f"file:{sandbox.vault.path('on-call-channel')}"
    mails = len(sandbox.vendors.read_kept("sendgrid"))

    told = ask(invoice, contact_of(pager))

    assert told == Told(contact="Ada", channel="channel 1")
    page = sandbox.vendors.read_kept("pager")[-1]
    assert (page["title"], page["message"]) == (MESSAGE.subject, MESSAGE.body)
    assert len(sandbox.vendors.read_kept("sendgrid")) == mails


def test_channels_that_are_dead_silent_malformed_or_missing_are_named_and_the_mail_goes_out(
    invoice: ServiceProfile, sandbox: Sandbox, make_channel: Any, silent: str
) -> None:
    channels = (
        make_channel("json://user:pass-word@127.0.0.1:1/token-in-a-path"),
        make_channel(f"json://{silent}/token-in-a-path"),
        make_channel("no-url-but-a-token"),
        "file:/nowhere/channel",
    )

    told = ask(invoice, contact_of(*channels), seconds=1)

    assert told.channel == "e-mail"
    said = "\n".join(told.failures)
    assert said.splitlines() == [
        "Ada by channel 1: JSON did not take the message.",
        "Ada by channel 2: it did not answer within 1 s.",
        f"Ada by channel 3: what {channels[2]} names is no Apprise URL: correct it.",
        "Ada by channel 4: The secret file /nowhere/channel does not exist: create it, mode 600.",
    ]
    assert "token" not in said.replace("no-url", "")
    mail = sandbox.vendors.read_kept("sendgrid")[-1]
    assert mail["personalizations"][0]["to"] == [{"email": "ada@example.com", "name": "Ada"}]
    assert mail["content"] == [{"type": "text/plain", "value": MESSAGE.body}]
    assert mail["tracking_settings"]["click_tracking"] == {"enable": False, "enable_text": False}


@pytest.mark.parametrize(
    ("conduct", "said"),
    [
        ({"mode": "down"}, "SendGrid answered 503"),
        ({"mode": "hanging"}, "it did not answer within 1 s"),
    ],
)
def test_a_sendgrid_that_fails_is_told_within_the_limit(
    invoice: ServiceProfile, sandbox: Sandbox, conduct: dict[str, Any], said: str
) -> None:
    sandbox.vendors.conduct("sendgrid", **conduct)
    try:
        told = ask(invoice, contact_of(), seconds=1)
    finally:
        sandbox.vendors.conduct("sendgrid", mode="up")
    assert told == Told(contact="Ada", failures=(f"Ada by e-mail: {said}.",))


def test_a_sendgrid_that_is_not_there_or_refuses_the_key_or_the_mail_is_told(
    invoice: ServiceProfile, make_channel: Any
) -> None:
    dead = with_key(invoice, sendgrid_url="http://127.0.0.1:1")
    assert ask(dead, contact_of()).failures == ("Ada by e-mail: SendGrid did not answer (URLError).",)
    wrong = with_key(invoice, sendgrid_key=make_channel("SG.not-the-key"))
    (said,) = ask(wrong, contact_of()).failures
    assert said == "Ada by e-mail: SendGrid refuses the key of escalation.sendgrid_key (401)."
    (said,) = ask(invoice, contact_of(email="ada@nowhere")).failures
    assert said == "Ada by e-mail: SendGrid answered 400."
    (said,) = ask(with_key(invoice, sendgrid_key=None), contact_of()).failures
    assert said == "Ada by e-mail: the profile has no escalation.sendgrid_key."


def test_a_keys_scopes_are_read(invoice: ServiceProfile) -> None:
    assert "mail.send" in read_scopes(invoice.escalation)


# --- What the doctor says of them ---


def test_a_key_of_two_lines_is_told_and_not_shown(invoice: ServiceProfile, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text("SG.canary\n# of March")
    escalation = invoice.escalation.model_copy(update={"sendgrid_key": f"file:{key}"})
    with pytest.raises(ConfigurationError) as raised:
        read_scopes(escalation)
    assert str(raised.value) == (
        "SendGrid cannot be asked with the key of escalation.sendgrid_key: it is not one line of plain "
        "characters."
    )
    assert raised.value.__suppress_context__


def test_a_ladder_on_which_everybody_can_be_told_is_well(invoice: ServiceProfile) -> None:
    assert list(examine_contacts(invoice)) == []


def test_a_ladder_without_levels_is_told(invoice: ServiceProfile) -> None:
    (said,) = examine_contacts(with_key(invoice, levels=()))
    assert "fill escalation.levels" in said


def test_a_cause_that_is_misspelt_is_told_and_a_severity_of_whoever_sends_alerts_is_not(
    invoice: ServiceProfile,
) -> None:
    first, *others = invoice.escalation.levels
    words = ("database dwon", "Database locked", "database down", "critical", "page", "sev1")
    levels = (first.model_copy(update={"starts_for": words}), *others)
    assert list(examine_contacts(with_key(invoice, levels=levels))) == [
        f"level {first.name} starts for 'database dwon', which no triage says: write 'database down'.",
        f"level {first.name} starts for 'Database locked', which no triage says: write 'database locked'.",
    ]


def test_contacts_who_cannot_be_told_are_named(invoice: ServiceProfile, make_channel: Any) -> None:
    team, *others = invoice.contacts
    paged = team.model_copy(update={"email": None, "channels": (make_channel("no-url"),)})
    changed = with_key(invoice, sendgrid_key=make_channel("SG.not-the-key")).model_copy(
        update={"contacts": (paged, *others)}
    )
    said = list(examine_contacts(changed))
    assert said[0] == ("no e-mail can be sent, SendGrid refuses the key of escalation.sendgrid_key (401).")
    assert said[1].startswith("a channel of Development team does not work, what file:")
    assert [line.split(" cannot")[0] for line in said[2:]] == [
        "Development team",
        "Database administrator",
        "System administrator",
        "Emergency contact",
    ]


def test_a_reference_to_the_links_key_that_leads_nowhere_is_told(invoice: ServiceProfile) -> None:
    wrong = with_key(invoice, receiver_url="http://127.0.0.1:1", link_key="file:/nowhere/key")
    (said,) = examine_contacts(wrong)
    assert said.startswith("escalation.link_key leads nowhere: The secret file /nowhere/key does not exist")
