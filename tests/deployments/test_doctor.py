"""The doctor on the sandbox's real systems: a sentence for what is wrong, none for what is well."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from deployments.doctor import examine, main
from deployments.sandbox.stack import Sandbox
from deployments.watch.__main__ import watch
from tasks.profiles import SERVICES_VARIABLE

Told = Callable[[Callable[[dict[str, Any]], None]], list[str]]


@pytest.fixture(params=["invoice", "propertypulse"])
def told(request: pytest.FixtureRequest, sandbox: Sandbox, tmp_path: Path) -> Told:
    """What the doctor says of a service with its profile changed, but of backups, of which there are none."""

    def examined(change: Callable[[dict[str, Any]], None]) -> list[str]:
        settings = yaml.safe_load((sandbox.state / "services" / f"{request.param}.yaml").read_text())
        settings["state_directory"] = str(tmp_path / "state")
        change(settings)
        changed = tmp_path / f"{request.param}.yaml"
        changed.write_text(yaml.safe_dump(settings))
        return [problem for problem in examine(changed) if "backup" not in problem and "drill" not in problem]

    return examined


def test_a_service_that_is_as_its_profile_says_is_well(told: Told, tmp_path: Path) -> None:
    assert told(lambda settings: None) == []
    (made,) = (tmp_path / "state").iterdir()
    assert made.stat().st_mode & 0o777 == 0o700


def test_a_name_that_the_process_manager_does_not_know_is_told(told: Told) -> None:
    (problem,) = told(lambda settings: settings["application"].update(process_name="nobody"))
    assert "PM2 does not know nobody" in problem


def test_an_application_of_which_a_part_does_not_run_is_told(told: Told, sandbox: Sandbox) -> None:
    sandbox.pm2.run("stop", "0", "1")
    try:
        problems = told(lambda settings: None)
        assert [problem for problem in problems if "1 stopped: see the log of " in problem]
    finally:
        sandbox.pm2.run("restart", "0", "1")


def test_a_login_that_is_refused_is_told_without_the_password(told: Told, tmp_path: Path) -> None:
    wrong = tmp_path / "password"
    wrong.touch(mode=0o600)
    wrong.write_text("not-the-password")
    (problem,) = told(lambda settings: settings["application"]["login"].update(password=f"file:{wrong}"))
    assert "answered 401" in problem
    assert "not-the-password" not in problem
    assert problem.endswith(": compare application.login with the probe user.")


def test_a_state_directory_that_is_open_to_others_is_told(told: Told, tmp_path: Path) -> None:
    def open_up(settings: dict[str, Any]) -> None:
        folder = Path(settings["state_directory"], settings["name"])
        folder.mkdir(parents=True)
        folder.chmod(0o755)

    (problem,) = told(open_up)
    assert "is open to others" in problem


def test_a_backup_disk_that_is_not_mounted_is_told(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    settings = yaml.safe_load((sandbox.state / "services" / "invoice.yaml").read_text())
    settings["backup"]["destination"] = {"url": (tmp_path / "mnt" / "runbooks").as_uri()}
    (tmp_path / "invoice.yaml").write_text(yaml.safe_dump(settings))
    told = [problem for problem in examine(tmp_path / "invoice.yaml") if "mount its disk" in problem]
    assert told
    assert f"The backup folder {tmp_path / 'mnt' / 'runbooks'} does not exist" in told[0]


def test_an_index_on_what_is_not_there_is_told_with_what_may_have_been_meant(told: Told) -> None:
    (problem,) = told(lambda settings: settings["indexes"].append({"source": "userz", "key": {"email": 1}}))
    assert problem == (
        "there is no userz in the database (did you mean users?): correct indexes in the profile."
    )


def test_a_cleanup_rule_on_what_is_not_there_is_told_with_what_may_have_been_meant(told: Told) -> None:
    def misspell(settings: dict[str, Any]) -> None:
        rule = settings["cleanup"]["rules"][0]
        rule["source"] = rule["source"] + "s"

    (problem,) = told(misspell)
    name, _, hint = problem.partition(" in the database ")
    assert name in {"there is no auditLogss", "there is no AuditTrails"}
    assert hint.startswith(
        f"(did you mean {name.split()[-1][:-1]}?): correct source of the cleanup rule audit-"
    )


def test_a_cleanup_rule_by_a_field_that_is_not_there_is_told(told: Told) -> None:
    (problem,) = told(lambda settings: settings["cleanup"]["rules"][0].update(time_field="validUntill"))
    assert "validUntill" in problem
    assert "correct time_field of the cleanup rule audit-" in problem


def test_a_cleanup_rule_by_a_field_that_is_no_time_is_told(told: Told) -> None:
    field = {"auditLogs": "userEmail", "AuditTrail": "auditId"}

    def choose(settings: dict[str, Any]) -> None:
        rule = settings["cleanup"]["rules"][0]
        rule["time_field"] = field[rule["source"]]

    (problem,) = told(choose)
    assert "is no time" in problem
    assert "the cleanup rule audit-" in problem


def test_users_and_an_audit_log_that_are_not_there_are_told(told: Told) -> None:
    (problem,) = told(lambda settings: settings.setdefault("users", {}).update(source="people"))
    assert problem.endswith("people: correct users.source in the profile.")
    (problem,) = told(lambda settings: settings["users"].setdefault("audit", {}).update(source="nowhere"))
    assert problem.endswith("nowhere: correct users.audit.source in the profile.")


def test_roles_that_nobody_has_are_told(told: Told) -> None:
    (problem,) = told(lambda settings: settings["users"].update(admin_roles=["owner"]))
    assert problem == ("nobody in users has the role owner: correct users.role_field or users.admin_roles.")


def test_an_application_whose_folder_cannot_be_looked_at_is_told_with_everything_else(
    told: Told, tmp_path: Path
) -> None:
    # Not a folder without permissions, which root may look at.
    refused = tmp_path / ("x" * 256)
    problems = told(lambda settings: settings["application"].update(directory=str(refused)))
    assert problems[0] == f"{refused}: File name too long."
    assert any(f"the env file {refused}" in problem for problem in problems[1:])


def test_what_is_wrong_is_shown_to_the_letter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "[red] :warning:"
    folder.mkdir()
    (folder / "bakery.yaml").write_text("name: The Bakery")
    monkeypatch.setenv(SERVICES_VARIABLE, str(folder))
    assert main() == 1
    said = capsys.readouterr().out
    (problem,) = examine(folder / "bakery.yaml")
    assert said == f"wrong  bakery: {problem}\n"
    assert "name: String should match pattern '^[a-z][a-z0-9-]*$'" in said
    (folder / "bakery.yaml").unlink()
    assert main() == 1
    assert str(folder) in capsys.readouterr().out.replace("\n", "")


def test_a_profile_that_is_not_read_for_its_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bakery.yml").write_text("name: bakery")
    monkeypatch.setenv(SERVICES_VARIABLE, str(tmp_path))
    assert main() == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first == "wrong  bakery.yml is not read: rename it to bakery.yaml."
    assert second.startswith("There is no profile in ")


def test_profiles_that_cannot_be_looked_at_are_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Not a folder without permissions, which root may look at.
    folder = tmp_path / ("x" * 256)
    monkeypatch.setenv(SERVICES_VARIABLE, str(folder))
    sentence = (
        f"The folder of the profiles, {folder}, cannot be read (File name too long): run this as the "
        "worker's user."
    )
    assert main() == 1
    assert capsys.readouterr().out == f"{sentence}\n"
    assert watch("backups", datetime.now(UTC)) == [f"{sentence} Nothing is watched."]


class _Careless(BaseHTTPRequestHandler):
    """A store that overwrites whatever it was asked not to, as many that speak S3 do."""

    kept: ClassVar[dict[str, bytes]] = {}

    def do_PUT(self) -> None:
        self.kept[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, b"")

    def do_GET(self) -> None:
        if "list-type" in self.path:
            self._answer(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        else:
            found = self.kept.get(self.path.partition("?")[0])
            self._answer(404 if found is None else 200, found or b"")

    def do_DELETE(self) -> None:
        self.kept.pop(self.path, None)
        self._answer(204, b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class calls it so
        """Keep quiet."""

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"x"')
        self.end_headers()
        self.wfile.write(body)


def test_a_store_that_does_not_keep_two_hosts_apart_is_told(sandbox: Sandbox, tmp_path: Path) -> None:
    settings = yaml.safe_load((sandbox.state / "services" / "invoice.yaml").read_text())
    with ThreadingHTTPServer(("127.0.0.1", 0), _Careless) as store:
        threading.Thread(target=store.serve_forever).start()
        settings["backup"]["destination"]["endpoint_url"] = f"http://127.0.0.1:{store.server_port}"
        (tmp_path / "invoice.yaml").write_text(yaml.safe_dump(settings))
        try:
            (problem,) = (said for said in examine(tmp_path / "invoice.yaml") if "store" in said)
        finally:
            store.shutdown()
    assert problem == (
        f"s3://backups/runbooks (127.0.0.1:{store.server_port}) does not heed If-None-Match, without which "
        "two hosts are not kept apart: use a store that does."
    )
    assert _Careless.kept == {}
