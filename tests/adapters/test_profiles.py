"""Service profiles: a right one loads, and a wrong one says where it is wrong and what was expected."""

from pathlib import Path

import pytest

from tasks.errors import ConfigurationError
from tasks.profiles import SERVICES_VARIABLE, list_services, load_service, read_profile, services_folder

CHECKED_IN = services_folder({})
INVOICE = (CHECKED_IN / "invoice.yaml").read_text(encoding="utf-8")


def written(folder: Path, *changes: tuple[str, str], name: str = "invoice") -> Path:
    """Write the invoice profile with some text replaced."""
    text = INVOICE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def line_of(path: Path, text: str) -> int:
    (found,) = [number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line]
    return found


@pytest.mark.parametrize("path", sorted(CHECKED_IN.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_profile_of_the_project_loads(path: Path) -> None:
    profile = read_profile(path)
    assert profile.name == path.stem
    assert profile.zone.key == profile.time_zone


def test_both_systems_have_a_profile() -> None:
    assert {"invoice", "propertypulse"} <= set(list_services(CHECKED_IN))


@pytest.mark.parametrize(
    ("change", "wrong_line", "field", "expected"),
    [
        ("keep_days: 30 -> keep_day: 30", "keep_day:", "backup.retention.keep_day", "known here: keep_days"),
        ("\ntitle: -> \ntitel:", "titel:", "titel", "known here: name, title"),
        ("kind: mongodb -> kind: mysql", "kind:", "database.kind", "'mongodb' or 'postgresql'"),
        ("keep_days: 30 -> keep_days: many", "keep_days:", "backup.retention.keep_days", "valid integer"),
        ("keep_days: 30 -> keep_days: 0", "keep_days:", "backup.retention.keep_days", "or equal to 1"),
        ("keep_days: 30 -> keep_days: 999999", "keep_days:", "backup.retention.keep_days", "equal to 36500"),
        ("Australia/Sydney -> Sydney", "time_zone:", "time_zone", "a name like 'Europe/Berlin'"),
        (
            "older_than: P365D -> older_than: 365",
            "audit-log,",
            "cleanup.rules.0.older_than",
            "P365D for 365 days",
        ),
        (
            "older_than: P365D -> older_than: '365'",
            "audit-log,",
            "cleanup.rules.0.older_than",
            "P365D for 365",
        ),
        ('stop_at: "05:00" -> stop_at: 10:30', "stop_at:", "cleanup.stop_at", "written in quotes: '10:30'"),
        ("http://127 -> 127", "health_url:", "application.health_url", "https?://"),
        ("- PORT -> - 8080", "- 8080", "application.required_variables.1", "valid string"),
        ("s3://backups/runbooks -> ftp://x/y", "ftp:", "backup.destination.url", "s3://"),
        (
            "file:/etc/runbooks/invoice/mongodb-admin-url -> mongodb://root:canary@db/admin",
            "admin_url:",
            "database.admin_url",
            "env|file|block",
        ),
        ("\ntitle: -> \nstate_directory: state\ntitle:", "state_directory:", "state_directory", "from / on"),
        (
            "directory: /srv/invoice/backend -> directory: ~/backend",
            "~/backend",
            "application.directory",
            "from / on",
        ),
        *(
            (
                f"http://127.0.0.1:8080/health -> {url}",
                "health_url:",
                "application.health_url",
                "names no host",
            )
            for url in ("http://", "http:///health", "http://h:99999/", "http://[::1/", "http://a..b/")
        ),
        (
            "region: ap -> endpoint_url: minio.example.com\n    region: ap",
            "minio",
            "backup.destination.endpoint_url",
            "https?://",
        ),
        ("keep_monthly: 6 -> keep_monthly: yes", "keep_monthly:", "backup.retention.keep_monthly", "number"),
    ],
)
def test_a_wrong_field_is_named_with_file_and_line_and_what_was_expected(
    tmp_path: Path, change: str, wrong_line: str, field: str, expected: str
) -> None:
    old, new = change.split(" -> ")
    path = written(tmp_path, (old, new))
    with pytest.raises(ConfigurationError) as raised:
        read_profile(path)
    said = str(raised.value)
    assert said.startswith(f"The profile {path} is wrong at ")
    assert f"line {line_of(path, wrong_line)}, {field}: " in said
    assert expected in said
    assert "canary" not in said


def test_a_missing_field_is_named_at_the_line_of_its_section(tmp_path: Path) -> None:
    path = written(tmp_path, ("  process_name: invoice-backend\n", ""))
    with pytest.raises(ConfigurationError, match="Field required") as raised:
        read_profile(path)
    assert f"line {line_of(path, 'application:')}, application.process_name: " in str(raised.value)


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, ("keep_days: 30", "keep_days: x"), ("kind: mongodb", "kind: x"))
    with pytest.raises(ConfigurationError, match=r"database\.kind.*; .*keep_days"):
        read_profile(path)


def test_keys_come_in_pairs(tmp_path: Path) -> None:
    path = written(tmp_path, ("    access_key_id: file:/etc/runbooks/s3-access-key-id\n", ""))
    with pytest.raises(ConfigurationError, match="given together or not at all"):
        read_profile(path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: [unclosed\n\n", r"is no YAML: line 3, .* from line 1 on: did not find "),
        ("\tname: tab", "is no YAML"),
        ("name: 2024-13-45", "is no YAML"),
        ("name: {{ service }}", "is no YAML: line 1, "),
        ("name: &again [*again]", "is no YAML"),
        ("", "line 1, the profile: it has no fields; write them below it, each as name: value"),
        ("- a list", "line 1, the profile: it has no fields"),
        ("just text", "line 1, the profile: it has no fields"),
        ("name: a\nbackup:", "line 2, backup: it has no fields"),
    ],
)
def test_a_file_that_is_no_profile_at_all_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "invoice.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=rf"The profile {path} .*{problem}") as raised:
        read_profile(path)
    assert "\n" not in str(raised.value)


def test_a_field_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, ("    keep_days: 30", "    keep_days: 300\n    keep_days: 3"))
    second = path.read_text().splitlines().index("    keep_days: 3") + 1
    with pytest.raises(ConfigurationError, match=rf"line {second}, .*keep_days.* twice"):
        read_profile(path)


@pytest.mark.parametrize("content", [b"name: \xff", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "invoice.yaml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"The profile {path} cannot be read"):
        read_profile(path)


def test_a_runbook_that_is_to_wait_and_is_none_is_named_with_the_one_that_may_have_been_meant(
    tmp_path: Path,
) -> None:
    path = written(
        tmp_path,
        ("\nindexes:", "\napproval:\n  required_for: [restore-database, restore-applicaton]\n\nindexes:"),
    )
    with pytest.raises(ConfigurationError) as raised:
        read_profile(path)
    assert str(raised.value) == (
        f"The profile {path} lets 'restore-applicaton' wait for approval, which is no runbook: correct "
        "approval.required_for. Did you mean restore-application?"
    )


def test_two_contacts_of_one_name_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, ("name: Emergency contact", "name: System administrator"))
    with pytest.raises(ConfigurationError, match="contact 'System administrator' is there twice"):
        read_profile(path)


@pytest.mark.parametrize("schedule", ["nightly", "0 25 * * *", "every day at 2"])
def test_a_schedule_that_is_none_is_refused(tmp_path: Path, schedule: str) -> None:
    path = written(tmp_path, ('schedule: "0 2 * * *"', f'schedule: "{schedule}"'))
    with pytest.raises(ConfigurationError) as raised:
        read_profile(path)
    assert str(raised.value) == (
        f"The profile {path} has '{schedule}' as backup.schedule, which is no cron expression: write one "
        "like '0 2 * * *'."
    )


def test_file_and_service_have_one_name(tmp_path: Path) -> None:
    path = written(tmp_path, name="billing")
    with pytest.raises(ConfigurationError, match="calls its service 'invoice'"):
        read_profile(path)


def test_an_unknown_service_lists_the_known_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVICES_VARIABLE, str(tmp_path))
    with pytest.raises(
        ConfigurationError, match=rf"no service 'invioce' in {tmp_path}; known services: none"
    ):
        load_service.fn("invioce")
    written(tmp_path)
    written(tmp_path, name="other")
    for unknown in ("invioce", "../invoice", "", "invoice.yaml"):
        with pytest.raises(ConfigurationError, match="known services: invoice, other"):
            load_service.fn(unknown)
    assert load_service.fn("invoice").title == "Invoice Management System"


def test_a_profile_whose_file_has_another_ending_is_told_to_be_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SERVICES_VARIABLE, str(tmp_path))
    written(tmp_path).rename(tmp_path / "invoice.yml")
    with pytest.raises(
        ConfigurationError, match=rf"{tmp_path}/invoice\.yml is not read: rename it to invoice\.yaml\."
    ):
        load_service.fn("invoice")
