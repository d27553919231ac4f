"""What is wrong with an env file is said by names; no value of it is ever in what is said."""

import string
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.known_good import remember_healthy
from tasks.observing_environment import observe_environment
from tasks.profiles import read_profile
from tasks.records.evidence import EnvironmentFacts
from tasks.records.service import ServiceProfile

AT = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
SERVICES = Path(__file__).parents[2] / "deployments" / "services"
GOOD = {
    "MONGODB_URI": "mongodb://app:pass%2Fword@db.example.com:27017/invoice",
    "PORT": "8080",
    "EMAIL_FOR_OTP": "otp@example.com",
    "EMAIL_PASSWORD": "swordfish-swordfish",
    "JWT_SECRET": "0123456789abcdef0123456789abcdef",
    "ENCRYPTION_KEY": "fedcba9876543210fedcba9876543210",
    "NODE_ENV": "production",
}


def written(profile: ServiceProfile, folder: Path, text: str) -> ServiceProfile:
    """Return the service with an env file of its own."""
    folder.mkdir(exist_ok=True)
    (folder / ".env").write_text(text, encoding="utf-8")
    application = profile.application.model_copy(update={"directory": folder})
    return profile.model_copy(update={"application": application})


def as_text(**changed: str | None) -> str:
    values = {**GOOD, **changed}
    return "".join(f"{name}={value}\n" for name, value in values.items() if value is not None)


def observe(profile: ServiceProfile, folder: Path, text: str) -> EnvironmentFacts:
    return observe_environment.fn(written(profile, folder, text))


def test_both_sandbox_applications_have_all_they_need(
    invoice: ServiceProfile, propertypulse: ServiceProfile
) -> None:
    for profile in (invoice, propertypulse):
        facts = observe_environment.fn(profile)
        assert facts.problem is None
        assert (facts.missing, facts.malformed, facts.repeated) == ((), (), ())
        assert facts.modified_at is not None


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        ({}, ()),
        ({"JWT_SECRET": None}, ("JWT_SECRET",)),
        ({"JWT_SECRET": ""}, ("JWT_SECRET",)),
        ({"JWT_SECRET": '"   "'}, ("JWT_SECRET",)),
        ({"MONGODB_URI": None, "NODE_ENV": "''"}, ("MONGODB_URI", "NODE_ENV")),
    ],
)
def test_what_is_missing_or_empty_is_named(
    service: ServiceProfile, tmp_path: Path, changed: dict[str, Any], missing: tuple[str, ...]
) -> None:
    facts = observe(service, tmp_path / "app", as_text(**changed))
    assert facts.missing == missing
    assert facts.malformed == ()


def test_a_database_url_is_needed_though_the_profile_does_not_list_it(
    service: ServiceProfile, tmp_path: Path
) -> None:
    application = service.application.model_copy(update={"required_variables": ()})
    profile = service.model_copy(update={"application": application})
    assert observe(profile, tmp_path / "app", "PORT=1\n").missing == ("MONGODB_URI",)


URL = "MongoDB (mongodb://user:password@host:port/database)"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("MONGODB_URI", "postgresql://app:hidden@db/invoice", f"is no URL of {URL}"),
        ("MONGODB_URI", "mongo://app:hidden@db/invoice", f"is no URL of {URL}"),
        ("MONGODB_URI", "mongodb://app:hid/den@db/invoice", "is no usable URL (The MongoDB URL is malformed"),
        ("MONGODB_URI", "mongodb://app:hidden@db:port/invoice", "is no usable URL (The MongoDB URL is"),
        ("MONGODB_URI", '"mongodb://app:hidden@db/invoice', 'begins with a quotation mark (")'),
        ("PORT", "http", "is no port: a number from 1 to 65535"),
        ("PORT", "65536", "is no port"),
        ("PORT", "0", "is no port"),
        ("PORT", "8080;", "is no port"),
        ("PORT", "٨٠٨٠", "is no port"),
        ("JWT_SECRET", "tooshort-hidden", "does not have the form that the profile wants: .{32,}"),
        ("ENCRYPTION_KEY", "x" * 33, "does not have the form that the profile wants: .{32}"),
    ],
)
def test_what_is_malformed_is_named_with_what_is_expected(
    service: ServiceProfile, tmp_path: Path, name: str, value: str, problem: str
) -> None:
    facts = observe(service, tmp_path / "app", as_text(**{name: value}))
    (complaint,) = facts.malformed
    assert complaint.name == name
    assert complaint.problem.startswith(problem)
    assert value not in complaint.problem
    assert "hidden" not in complaint.problem


@pytest.mark.parametrize(
    ("url", "is_right"),
    [
        ("postgresql://app:hidden@db:5432/pulse?schema=public&connection_limit=5", True),
        ("postgres://app@db/pulse", True),
        ("mysql://app:hidden@db/pulse", False),
        ("postgresql://app:hidden@db:port/pulse", False),
    ],
)
def test_a_postgresql_url_is_read_as_prisma_writes_it(tmp_path: Path, url: str, is_right: bool) -> None:
    profile = read_profile(SERVICES / "propertypulse.yaml")
    profile = profile.model_copy(update={"state_directory": tmp_path / "state"})
    facts = observe(profile, tmp_path / "app", f"DATABASE_URL={url}\n")
    assert [complaint.name for complaint in facts.malformed] == ([] if is_right else ["DATABASE_URL"])


def test_a_srv_url_asks_no_name_server(service: ServiceProfile, tmp_path: Path) -> None:
    url = "mongodb+srv://app:hidden@cluster0.abcde.example.invalid/invoice?retryWrites=true"
    assert observe(service, tmp_path / "app", as_text(MONGODB_URI=url)).malformed == ()


def test_a_variable_with_two_values_is_named_and_the_last_one_counts(
    service: ServiceProfile, tmp_path: Path
) -> None:
    facts = observe(service, tmp_path / "app", as_text() + "PORT=9090\nNODE_ENV=production\nJWT_SECRET=\n")
    assert facts.repeated == ("JWT_SECRET", "PORT")
    assert facts.missing == ("JWT_SECRET",)


@pytest.mark.parametrize("kind", ["missing", "folder", "binary", "loop"])
def test_a_file_that_cannot_be_read_is_said_in_a_sentence(
    service: ServiceProfile, tmp_path: Path, kind: str
) -> None:
    profile = written(service, tmp_path / "app", as_text())
    path = profile.env_path
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "binary":
        path.write_bytes(b"JWT_SECRET=\xff\xfe\n")
    elif kind == "loop":
        path.symlink_to(path)
    facts = observe_environment.fn(profile)
    assert facts.problem is not None
    assert facts.problem.startswith(f"invoice: the env file {path} ")
    assert facts.problem.endswith(".")
    assert facts.missing == ()


def test_what_changed_since_it_was_healthy_is_named(service: ServiceProfile, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    assert observe(service, folder, as_text()).changed == ()
    remember_healthy.fn(written(service, folder, as_text()), AT)
    assert observe(service, folder, as_text()).changed == ()
    assert observe(service, folder, as_text(PORT="8081", NODE_ENV=None)).changed == ("NODE_ENV", "PORT")


VALUES = st.text(
    string.ascii_letters + string.digits + "!$%&/()=?+*~-_.:,;<>|{}[]@^° äß\\", min_size=6
).filter(lambda value: len(value.strip()) >= 6)
QUOTES = st.sampled_from(["", "", "'", '"', "`"])
PREFIXES = st.sampled_from(["", "", "mongodb://", "mongodb+srv://a:", "mongodb://app:", "postgresql://"])
LINES = st.tuples(st.sampled_from([*GOOD, "OTHER"]), QUOTES, PREFIXES, VALUES, QUOTES)


def test_no_value_of_the_file_is_ever_in_the_facts(service: ServiceProfile, tmp_path: Path) -> None:
    remember_healthy.fn(written(service, tmp_path / "app", as_text()), AT)

    @settings(max_examples=120, deadline=None, database=None, derandomize=True)
    @given(lines=st.lists(LINES, max_size=8))
    @example(lines=[("MONGODB_URI", "", "mongodb://app:", "p@ss/word@db:70000/x", "")])
    def check(lines: list[tuple[str, str, str, str, str]]) -> None:
        text = "".join(f"{name}={''.join(pieces)}\n" for name, *pieces in lines)
        facts = observe(service, tmp_path / "app", text)
        complaints = [f"{complaint.name} {complaint.problem}" for complaint in facts.malformed]
        said = " ".join([*complaints, *facts.missing, *facts.repeated, *facts.changed, str(facts.problem)])
        values = [value.strip() for _, _, _, value, _ in lines]
        assert [value for value in values if value in said] == []

    check()
