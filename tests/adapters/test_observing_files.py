"""Whether an application's files can run, on real files and with the real Node.js."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from nodesemver import satisfies  # type: ignore[import-untyped]

from deployments.sandbox import programs
from deployments.sandbox.node import FOLDER
from tasks.errors import ConfigurationError, SourceError
from tasks.known_good import remember_healthy
from tasks.observing_files import observe_files
from tasks.own_processes import find_own_processes, find_starters
from tasks.program_dependencies import list_missing_dependencies
from tasks.records.evidence import ApplicationFacts
from tasks.records.observation import Complaint
from tasks.records.service import ServiceProfile

AT = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
NOBODY = 65534
SECRET = "swordfish-swordfish"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@pytest.fixture(autouse=True)
def _node_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{programs.node().parent}:{os.environ['PATH']}")


@pytest.fixture
def app(service: ServiceProfile, tmp_path: Path) -> ServiceProfile:
    """The sandbox's invoice application, as its sources are, without what npm installs."""
    directory = tmp_path / "app"
    shutil.copytree(FOLDER / "apps" / "invoice-backend", directory)
    (directory / ".env").write_text(f"PORT=8080\nJWT_SECRET={SECRET}\nAPI_KEY=sk4eC39HqLy\n")
    manifest = {**json.loads((directory / "package.json").read_text()), "dependencies": {}}
    (directory / "package.json").write_text(json.dumps(manifest))
    return changed(service, directory=directory, log_files=(Path("logs/error.log"),))


def changed(profile: ServiceProfile, **application: Any) -> ServiceProfile:
    return profile.model_copy(update={"application": profile.application.model_copy(update=application)})


def write(profile: ServiceProfile, **files: str) -> None:
    for name, text in files.items():
        path = profile.application.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def said(complaints: tuple[Complaint, ...]) -> list[str]:
    return [f"{complaint.name} {complaint.problem}" for complaint in complaints]


def test_nothing_is_wrong_with_the_sandboxs_applications(
    invoice: ServiceProfile, propertypulse: ServiceProfile
) -> None:
    for profile in (invoice, propertypulse):
        facts = observe_files.fn(profile)
        assert facts.changed_at is not None
        assert facts == ApplicationFacts(
            directory=str(profile.application.directory),
            changed_at=facts.changed_at,
            changed_files=facts.changed_files,
        )


MODULE = '{"type": "module"}'


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"routes/auth.js": "const a = 1;\nconst b = ;\n"},
            ["routes/auth.js:2 cannot be parsed: Unexpected token ';'"],
        ),
        (
            {"server.js": "function () {}\n"},
            ["server.js:1 cannot be parsed: Function statements require a function name"],
        ),
        ({"server.js": "#!/usr/bin/env node\nreturn;\n"}, []),
        ({"server.js": "import fs from 'fs';\nawait 1;\n"}, []),
        (
            {"server.js": "\nimport fs from 'fs';\nlet x = = 3;\n"},
            ["server.js:3 cannot be parsed: Unexpected token '='"],
        ),
        (
            {"package.json": MODULE, "server.js": "import './a.js';\n", "a.js": "\nlet x = = 3;\n"},
            ["a.js:2 cannot be parsed: Unexpected token '='"],
        ),
        ({"package.json": MODULE, "server.js": "import './a.mjs';\n", "a.mjs": "export const a = 1;\n"}, []),
        (
            {"server.js": "require('./a');\n", "a.json": '{"password": "hidden",}'},
            ["a.json cannot be parsed: It is no JSON"],
        ),
        ({"package.json": "{"}, ["package.json cannot be parsed: it is no JSON"]),
        # A page's script is nobody's concern, nor is what was installed.
        ({"public/page.js": "const a = <div/>;\n", "node_modules/x/index.js": "}"}, []),
        ({"server.js": "require('x'); require('./node_modules/x');\n", "node_modules/x/index.js": "}"}, []),
        (
            {"server.js": "const key = a sk4eC39HqLy;\n"},
            ["server.js:1 cannot be parsed: Unexpected identifier '***'"],
        ),
        (
            {"server.js": f"const key = '{SECRET}\n"},
            ["server.js:1 cannot be parsed: Invalid or unexpected token"],
        ),
        (
            {"server.js": "const key = a sk_live_4eC39HqLyjWDarjtT1zdp7dc;\n"},
            ["server.js:1 cannot be parsed: Unexpected identifier '…'"],
        ),
    ],
)
def test_what_node_cannot_parse_is_named_with_its_line(
    app: ServiceProfile, files: dict[str, str], expected: list[str]
) -> None:
    write(app, **files)
    facts = observe_files.fn(app)
    assert said(facts.syntax_errors) == expected
    assert facts.missing_dependencies == ()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"server.js": "const a = require('./gone');\n"}, ["gone is not there, server.js requires it"]),
        ({"server.js": "import './gone.js';\n"}, ["gone.js is not there, server.js requires it"]),
        ({"server.js": "try {\n  require('./gone');\n} catch {}\n"}, []),
        ({"server.js": "// require('./gone')\n"}, []),
    ],
)
def test_a_file_that_the_program_cannot_do_without_is_missing(
    app: ServiceProfile, files: dict[str, str], expected: list[str]
) -> None:
    write(app, **files)
    assert said(observe_files.fn(app).missing_dependencies) == expected


def test_a_program_without_its_first_file_is_told(app: ServiceProfile) -> None:
    (app.application.directory / "server.js").unlink()
    (complaint,) = observe_files.fn(app).missing_dependencies
    assert complaint == Complaint(name="server.js", problem="is not there, and the program begins with it")


def test_without_node_that_is_said(app: ServiceProfile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigurationError, match="node is not on the worker's PATH: put it there"):
        observe_files.fn(app)


def test_without_its_directory_that_is_said(app: ServiceProfile) -> None:
    with pytest.raises(ConfigurationError, match="directory /nowhere does not exist"):
        observe_files.fn(changed(app, directory=Path("/nowhere")))


def test_a_directory_that_cannot_be_looked_at_is_said(app: ServiceProfile) -> None:
    # Not one without permissions, which root may look at.
    with pytest.raises(SourceError, match="x: File name too long"):
        observe_files.fn(changed(app, directory=Path("/", "x" * 256)))


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """An application's directory with three packages, as npm installs them; one is the parent's."""
    directory = tmp_path / "parent" / "app"
    installed = {
        "node_modules/express": "4.19.2",
        "node_modules/@scope/tool": "2.0.0-rc.1",
        "node_modules/express/node_modules/qs": "6.11.0",
        "../node_modules/shared": "1.0.0",
    }
    for place, version in installed.items():
        (directory / place).mkdir(parents=True)
        (directory / place / "package.json").write_text(json.dumps({"version": version}))
    listed: dict[str, dict[str, bool]] = {place: {} for place in installed if not place.startswith("..")}
    listed |= {"node_modules/fsevents": {"optional": True}, "node_modules/mocha": {"dev": True}}
    (directory / "node_modules" / ".package-lock.json").write_text(json.dumps({"packages": listed}))
    return directory


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"express": "^4.17.0", "@scope/tool": "^2.0.0-0", "shared": "1.x"}, []),
        ({"mongodb": "^6.20.0"}, ["mongodb is not installed, package.json wants ^6.20.0"]),
        ({"express": "^5.0.0"}, ["express is installed as 4.19.2, package.json wants ^5.0.0"]),
        ({"@scope/tool": "^2.0.0"}, ["@scope/tool is installed as 2.0.0-rc.1, package.json wants ^2.0.0"]),
        (
            {"express": "npm:express-fork@^5"},
            ["express is installed as 4.19.2, package.json wants another source"],
        ),
        ({"express": "latest", "shared": "git+https://me:hidden@example.com/x.git"}, []),
        (
            {"gone": "git+https://me:hidden@example.com/x.git"},
            ["gone is not installed, package.json wants another source"],
        ),
    ],
)
def test_packages_are_looked_for_as_node_does_and_judged_as_npm_does(
    packages: Path, wanted: dict[str, str], expected: list[str]
) -> None:
    manifest = {
        "dependencies": wanted,
        "optionalDependencies": {"fsevents": "*"},
        "devDependencies": {"jest": "1"},
    }
    (packages / "package.json").write_text(json.dumps(manifest))
    assert said(list_missing_dependencies(packages)) == expected


def test_a_package_of_a_package_that_is_gone_is_named(packages: Path) -> None:
    (packages / "package.json").write_text('{"dependencies": {"express": "*"}}')
    (packages / "node_modules/express/node_modules/qs/package.json").unlink()
    place = "node_modules/express/node_modules/qs"
    assert said(list_missing_dependencies(packages)) == [f"qs was installed and is gone from {place}"]


RANGES = [
    "^1.2.3",
    "~1.2",
    "1.x",
    "*",
    "",
    "latest",
    ">= 1.2.3 < 2",
    "1.2.3 - 2.3.4",
    "^0.0.3",
    "^0.2.3",
    "v1.2.3",
]
RANGES += [
    "= 1.2.3",
    "^1.2.3-beta.2",
    "1 || >=2.0.0",
    "~>1.2.3",
    "1.2.3+build",
    "<2.1",
    ">1.0.0-alpha <1.0.0",
]
VERSIONS = [
    "0.0.3",
    "0.2.9",
    "1.0.0-beta",
    "1.2.3",
    "1.2.3-beta.3",
    "1.2.4",
    "1.9.0",
    "2.0.0",
    "2.0.0-rc.1",
    "2.3.4",
]
SATISFIES = """
const { satisfies } = require(process.argv[1]);
const [ranges, versions] = JSON.parse(process.argv[2]);
const judge = (range) => versions.map((one) => satisfies(one, range, { loose: true }));
console.log(JSON.stringify(ranges.map(judge)));
"""


def test_ranges_of_versions_mean_what_they_mean_to_npm() -> None:
    semver = programs.npm_cli().parents[1] / "node_modules" / "semver"
    command = [str(programs.node()), "-e", SATISFIES, str(semver), json.dumps([RANGES, VERSIONS])]
    expected = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    for wanted, answers in zip(RANGES, expected, strict=True):
        for version, answer in zip(VERSIONS, answers, strict=True):
            try:
                ours = bool(satisfies(version, wanted, loose=True))
            except ValueError:
                ours = False
            assert ours == answer, (version, wanted)


@pytest.fixture
def public(app: ServiceProfile) -> Iterator[ServiceProfile]:
    """The application of another user, not under our PM2, and outside of pytest's folders, which are ours."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        directory = Path(place, "app")
        shutil.copytree(app.application.directory, directory)
        (directory / "logs").mkdir()
        for path in (directory, *directory.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
            os.chown(path, NOBODY, NOBODY)
        yield changed(app, directory=directory, process_manager="systemd")


@as_root
def test_what_the_applications_user_may_not_read_or_write_is_named(public: ServiceProfile) -> None:
    directory = public.application.directory
    for name, owner, mode in (("server.js", 0, 0o600), (".env", 0, 0o640), ("routes/auth.js", NOBODY, 0o044)):
        os.chown(directory / name, owner, owner)
        (directory / name).chmod(mode)
    (directory / "middleware").chmod(0o644)
    (directory / "logs").chmod(0o555)
    user = "the user nobody"
    inside = f"is in {directory}/middleware, which {user} may not enter (drw-r--r--, of nobody)"
    assert sorted(said(observe_files.fn(public).unreadable)) == [
        f"{directory}/.env cannot be read by {user} (-rw-r-----, of root)",
        f"logs cannot be written to by {user} (dr-xr-xr-x, of nobody)",
        *(
            f"middleware/{name}.js {inside}"
            for name in ("addresses", "audit", "authentication", "errorHandler")
        ),
        f"routes/auth.js cannot be read by {user} (----r--r--, of nobody)",
        f"server.js cannot be read by {user} (-rw-------, of root)",
    ]


@as_root
def test_a_group_that_the_user_is_in_counts(public: ServiceProfile) -> None:
    directory = public.application.directory
    os.chown(directory / ".env", 0, NOBODY)
    (directory / ".env").chmod(0o640)
    assert observe_files.fn(public).unreadable == ()


@as_root
def test_the_user_of_the_processes_counts_before_the_owner_of_the_directory(public: ServiceProfile) -> None:
    directory = public.application.directory
    write(public, **{"server.js": "setInterval(() => {}, 1000);\n"})
    (directory / "server.js").chmod(0o600)
    os.chown(directory / "server.js", 0, 0)
    assert [complaint.name for complaint in observe_files.fn(public).unreadable] == ["server.js"]
    process = subprocess.Popen([str(programs.node()), "server.js"], cwd=directory)
    try:
        assert observe_files.fn(public).unreadable == ()
    finally:
        process.kill()
        process.wait()


TRY = f"""
import os, sys
from pathlib import Path
from tasks.file_access import user_of, why_unreadable, why_unwritable
# Python's own files may be where that user does not get to: what is read later is read now.
user_of([], Path("/proc/self"))
if os.geteuid() == 0:
    os.setgroups([]); os.setresgid(*[{NOBODY}] * 3); os.setresuid(*[{NOBODY}] * 3)
folder = Path(sys.argv[1])
user = user_of([], folder)
print(why_unreadable(user, folder / "server.js"), why_unwritable(user, folder / "logs"), sep="|", end="")
"""


def test_as_the_applications_own_user_it_is_tried() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder, file, logs = Path(place), Path(place, "server.js"), Path(place, "logs")
        file.touch(0o644)
        logs.mkdir(0o755)
        if os.geteuid() == 0:
            for path in (folder, file, logs):
                os.chown(path, NOBODY, NOBODY)

        def try_it() -> list[str]:
            command = [sys.executable, "-c", TRY, place]
            return subprocess.run(
                command, capture_output=True, text=True, check=True, timeout=60
            ).stdout.split("|")

        assert try_it() == ["None", "None"]
        file.chmod(0o200)
        logs.chmod(0o500)
        unreadable, unwritable = try_it()
        logs.chmod(0o700)
    assert unreadable.startswith("cannot be read by the user ")
    assert unwritable.startswith("cannot be written to by the user ")


@pytest.mark.parametrize("name", ["server.js", ".env"])
def test_what_is_no_file_cannot_be_read(app: ServiceProfile, name: str) -> None:
    (app.application.directory / name).unlink()
    (app.application.directory / name).mkdir()
    (complaint,) = observe_files.fn(app).unreadable
    assert complaint.name.endswith(name)
    assert complaint.problem == "is no file"


def test_what_changed_since_it_was_healthy_is_named_newest_first(app: ServiceProfile) -> None:
    directory = app.application.directory
    assert observe_files.fn(app).changed_files == ()
    remember_healthy.fn(app, AT)
    (directory / "config" / "database.js").touch()
    write(app, **{"logs/error.log": "much", "data.json": "{}", "node_modules/x/index.js": "1"})
    assert observe_files.fn(app).changed_files == ()
    before = datetime.now(UTC)
    write(app, **{"routes/health.js": "module.exports = 1;\n", "routes/new.js": "1;\n"})
    (directory / "middleware" / "errorHandler.js").unlink()
    facts = observe_files.fn(app)
    assert facts.changed_files == ("routes/new.js", "routes/health.js", "middleware/errorHandler.js")
    assert facts.changed_at is not None
    assert facts.changed_at.timestamp() == pytest.approx(before.timestamp(), abs=10)


def test_no_more_than_ten_changed_files_are_named(app: ServiceProfile) -> None:
    remember_healthy.fn(app, AT)
    write(app, **{f"new{number}.js": "1;\n" for number in range(12)})
    assert len(observe_files.fn(app).changed_files) == 10


def test_a_package_that_was_wrong_when_it_was_healthy_is_not_what_is_wrong(app: ServiceProfile) -> None:
    write(
        app,
        **{
            "package.json": '{"dependencies": {"old": "^1"}}',
            "node_modules/old/package.json": '{"version": "2.0.0"}',
        },
    )
    wrong = ["old is installed as 2.0.0, package.json wants ^1"]
    assert said(observe_files.fn(app).missing_dependencies) == wrong
    remember_healthy.fn(app, AT)
    assert observe_files.fn(app).missing_dependencies == ()
    write(app, **{"package.json": '{"dependencies": {"old": "^3"}}'})
    assert said(observe_files.fn(app).missing_dependencies) == [wrong[0].replace("^1", "^3")]


def test_what_pm2_starts_is_bound_by_modes_as_pm2_is(invoice: ServiceProfile) -> None:
    """The sandbox's PM2 gave up root's right to read everything; an application that does not run, too."""
    file = invoice.application.directory / "routes" / "audit.js"
    mode = stat.S_IMODE(file.stat().st_mode)
    entry = changed(invoice, entry_file=Path("routes/audit.js"))
    assert find_own_processes(entry) == []
    assert find_starters(entry) != []
    file.chmod(0)
    try:
        (complaint,) = observe_files.fn(entry).unreadable
    finally:
        file.chmod(mode)
    assert complaint.name == "routes/audit.js"
    assert complaint.problem.startswith("cannot be read by the user ")
