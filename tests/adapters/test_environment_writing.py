"""The env file is changed in exactly the wanted values, as Node's own dotenv reads it, or not at all."""

import os
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.sandbox.stack import Sandbox
from tasks import environment_writing
from tasks.environment_editing import edit
from tasks.environment_file import list_assignments, parse, read_variables
from tasks.environment_writing import write_variables
from tasks.errors import AccessDeniedError, ConfigurationError, LeaseHeldError, RefusedError, StoreFullError
from tasks.host_folder import host_folder
from tasks.records.service import ServiceProfile
from tasks.service_lock import hold_file
from tests.adapters.conftest import StartChild
from tests.adapters.test_environment_file import PIECES, WRITTEN, as_node_reads

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away, mounts, and is refused")
BEFORE = b"# ours\nFIRST=1\nSECRET=old # rotate me\nLAST='3'\n"
AFTER = b"# ours\nFIRST=1\nSECRET=new # rotate me\nLAST='3'\n"
CHANGE = {"SECRET": "new"}
EXPECTED = {"SECRET": "old"}


@pytest.fixture
def operated(service: ServiceProfile, tmp_path: Path) -> ServiceProfile:
    """A service whose env file is ``BEFORE``, alone in its folder."""
    folder = tmp_path / "application"
    folder.mkdir()
    (folder / ".env").write_bytes(BEFORE)
    application = service.application.model_copy(update={"directory": folder})
    return service.model_copy(update={"application": application})


def is_untouched(profile: ServiceProfile) -> bool:
    folder = profile.env_path.parent
    return profile.env_path.read_bytes() == BEFORE and [path.name for path in folder.iterdir()] == [".env"]


@pytest.mark.parametrize(
    ("text", "changes", "after", "expected"),
    [
        # The style, the comment and everything around are kept.
        ("A=1\nKEY=old\nB=2\n", {"KEY": "new"}, None, "A=1\nKEY=new\nB=2\n"),
        ("KEY='old' # why\n", {"KEY": "new"}, None, "KEY='new' # why\n"),
        ('export KEY="old"   # why\n', {"KEY": "new"}, None, 'export KEY="new"   # why\n'),
        ("KEY=`old`", {"KEY": "new"}, None, "KEY=`new`"),
        ("KEY: old\n", {"KEY": "new"}, None, "KEY: new\n"),
        ("  KEY  =  old  # why\n", {"KEY": "new"}, None, "  KEY  =  new  # why\n"),
        ("\ufeffKEY=old\r\nB=2\r\n", {"KEY": "new"}, None, "\ufeffKEY=new\r\nB=2\r\n"),
        ("A=1\r\nKEY=old\nB=2\r", {"KEY": "new"}, None, "A=1\r\nKEY=new\nB=2\r"),
        ("KEY=\nB=2\n", {"KEY": "new"}, None, "KEY=new\nB=2\n"),
        ("KEY= # why\n", {"KEY": "new"}, None, "KEY=new # why\n"),
        ("KEY=old\n", {"KEY": ""}, None, "KEY=\n"),
        ('KEY="a\r\nb"\r\nB=2', {"KEY": "new"}, None, 'KEY="new"\r\nB=2'),
        # Only where dotenv would read something else, the quoting changes.
        ("KEY=old\n", {"KEY": "a#b"}, None, "KEY='a#b'\n"),
        ("KEY=old\n", {"KEY": " a "}, None, "KEY=' a '\n"),
        ("KEY='old'\n", {"KEY": "it's"}, None, "KEY='it's'\n"),
        ("KEY='old'\n", {"KEY": "it's #1"}, None, "KEY=`it's #1`\n"),
        ("KEY=old\n", {"KEY": "it's `#1`"}, None, 'KEY="it\'s `#1`"\n'),
        ('KEY="old"\n', {"KEY": "a\nb"}, None, 'KEY="a\\nb"\n'),
        ('KEY="old"\n', {"KEY": r"a\nb"}, None, "KEY=a\\nb\n"),
        ("KEY=\n'old'\n", {"KEY": "new"}, None, "KEY=\n'new'\n"),
        # Of several assignments the last counts.
        ("KEY=1\nKEY=2\nB=2\n", {"KEY": "new"}, None, "KEY=1\nKEY=new\nB=2\n"),
        ("KEY=1\nA=1\nKEY=2\nB=2\n", {"KEY": None}, None, "A=1\nB=2\n"),
        # What is new goes behind its neighbour, in the file's own kind of lines.
        ("A=1 # one\n# two\nB=2\n", {"KEY": "new"}, "A", "A=1 # one\nKEY=new\n# two\nB=2\n"),
        ("A='1\n1'\nB=2\n", {"KEY": "new"}, "A", "A='1\n1'\nKEY=new\nB=2\n"),
        ("A=1\nB=2", {"KEY": "new"}, "B", "A=1\nB=2\nKEY=new"),
        ("A=1\r\nB=2\r\n", {"KEY": "new"}, None, "A=1\r\nB=2\r\nKEY=new\r\n"),
        ("A=1\n", {"KEY": "new"}, "NOT_THERE", "A=1\nKEY=new\n"),
        ("", {"KEY": "new"}, None, "KEY=new\n"),
        ("A=1\nB=2\n", {"KEY": "a", "OTHER": "b"}, "A", "A=1\nOTHER=b\nKEY=a\nB=2\n"),
        # What goes takes its line along, and nobody else's.
        ("A=1\nKEY=old # why\n\nB=2\n", {"KEY": None}, None, "A=1\n\nB=2\n"),
        ("A=1\r\nKEY='a\r\nb'\r\nB=2", {"KEY": None}, None, "A=1\r\nB=2"),
        ("KEY=\n# of B\nB=2\n", {"KEY": None}, None, "# of B\nB=2\n"),
        ("A=1\nKEY=old", {"KEY": None}, None, "A=1\n"),
        ("A=1\n", {"KEY": None}, None, "A=1\n"),
    ],
)
def test_exactly_one_assignment_changes(
    text: str, changes: dict[str, str | None], after: str | None, expected: str
) -> None:
    assert edit(text, changes, after) == expected


@pytest.mark.parametrize("value", ["'\"`#", "a\0b", "a#'\"`\n"])
def test_a_value_that_no_quoting_carries_is_refused_without_being_repeated(value: str) -> None:
    with pytest.raises(RefusedError, match="KEY cannot be written into the env file, no quoting") as raised:
        edit("KEY=old\n", {"KEY": value}, None)
    assert value not in str(raised.value)


def test_a_line_whose_absence_would_change_another_variable_is_left_to_a_person() -> None:
    text = "OTHER='\nKEY=a'b\n'\n"
    assert parse(text) == {"OTHER": "'", "KEY": "a'b"}
    with pytest.raises(RefusedError, match=r"KEY cannot be written .* its line cannot be taken out"):
        edit(text, {"KEY": None})


def test_whatever_is_written_node_reads_as_it_was_wanted_and_all_else_as_before(sandbox: Sandbox) -> None:
    """The texts and values are those that confuse parsers; names are taken from the text or are new."""
    cases: list[tuple[str, dict[str, str], str, str | None]] = []
    texts = st.one_of(st.just(WRITTEN), st.lists(PIECES, max_size=25).map("".join))

    @settings(max_examples=500, deadline=None, database=None, derandomize=True)
    @given(
        text=texts,
        name=st.sampled_from(["A", "B", "KEY", "LINES", "REPEATED", "UNCLOSED", "NEW"]),
        value=st.one_of(st.none(), st.lists(PIECES, max_size=8).map("".join)),
        after=st.sampled_from([None, "KEY", "A", "LINES"]),
    )
    def collect(text: str, name: str, value: str | None, after: str | None) -> None:
        try:
            edited = edit(text, {name: value}, after)
        except RefusedError:
            return
        others = [found for found in list_assignments(text) if found[0] != name]
        assert [found for found in list_assignments(edited) if found[0] != name] == others
        cases.append((edited, dict(others), name, value))

    collect()
    assert len(cases) > 250
    for (edited, others, name, value), found in zip(
        cases, as_node_reads([case[0] for case in cases]), strict=True
    ):
        assert found == others | ({} if value is None else {name: value}), edited


SECRETS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=40)


def test_every_value_of_printable_text_without_quotes_can_be_written(sandbox: Sandbox) -> None:
    written: list[tuple[str, str]] = []

    @settings(max_examples=200, deadline=None, database=None, derandomize=True)
    @given(value=SECRETS.filter(lambda value: not set(value) & set("'\"`")))
    def collect(value: str) -> None:
        texts = (f"KEY={quote}old{quote}\nB=2\n" for quote in ("", "'", '"'))
        written.extend((edit(text, {"KEY": value}), value) for text in texts)

    collect()
    for (text, value), found in zip(written, as_node_reads([text for text, _ in written]), strict=True):
        assert found == {"KEY": value, "B": "2"}, text


def test_the_file_has_the_new_value_and_every_other_byte(operated: ServiceProfile) -> None:
    write_variables(operated, CHANGE, EXPECTED)
    assert operated.env_path.read_bytes() == AFTER
    assert [path.name for path in operated.env_path.parent.iterdir()] == [".env"]


def test_several_variables_change_at_once_and_go_again(operated: ServiceProfile) -> None:
    changes = {"SECRET": "new", "SECRET_PREVIOUS": "old"}
    write_variables(operated, changes, {"SECRET": "old", "SECRET_PREVIOUS": None}, after="SECRET")
    assert operated.env_path.read_bytes() == AFTER.replace(b"LAST", b"SECRET_PREVIOUS=old\nLAST")
    write_variables(operated, {"SECRET_PREVIOUS": None}, changes)
    assert operated.env_path.read_bytes() == AFTER


def test_a_byte_order_mark_and_windows_lines_stay(operated: ServiceProfile) -> None:
    operated.env_path.write_bytes(b"\xef\xbb\xbf" + BEFORE.replace(b"\n", b"\r\n"))
    write_variables(operated, CHANGE | {"ADDED": "1"}, EXPECTED)
    added = (AFTER + b"ADDED=1\n").replace(b"\n", b"\r\n")
    assert operated.env_path.read_bytes() == b"\xef\xbb\xbf" + added


def test_what_is_there_already_is_not_written_again(operated: ServiceProfile) -> None:
    write_variables(operated, CHANGE, EXPECTED)
    before = operated.env_path.stat()
    # As after a kill between the write and the line that says so.
    write_variables(operated, CHANGE, EXPECTED)
    assert operated.env_path.stat() == before


@pytest.mark.parametrize(
    ("expected", "named"),
    [({"SECRET": "older"}, "SECRET"), ({"SECRET": None}, "SECRET"), ({"OTHER": "there"}, "OTHER")],
)
def test_another_value_than_expected_is_a_conflict(
    operated: ServiceProfile, expected: Mapping[str, str | None], named: str
) -> None:
    with pytest.raises(RefusedError, match=rf"^invoice: somebody else changed {named} in .*\.env meanwhile"):
        write_variables(operated, CHANGE, expected)
    assert is_untouched(operated)


def test_who_changes_the_file_while_it_is_written_loses_nothing(
    operated: ServiceProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts: list[Callable[[Path], object]] = [
        lambda path: path.write_bytes(BEFORE + b"THEIRS=1\n"),
        # The same bytes in another file: an editor that is about to go on.
        lambda path: (path.rename(path.with_name("old")), path.write_bytes(BEFORE)),
        lambda path: path.chmod(0o640),
        lambda path: os.utime(path, (1, 1)),
    ]
    write_beside = environment_writing._write_beside
    for act in acts:
        operated.env_path.write_bytes(BEFORE)
        operated.env_path.chmod(0o600)

        def meanwhile(
            *arguments: object, act: Callable[[Path], object] = act, write: Callable[..., None] = write_beside
        ) -> None:
            write(*arguments)
            act(operated.env_path)

        monkeypatch.setattr(environment_writing, "_write_beside", meanwhile)
        with pytest.raises(RefusedError, match=r"somebody else is changing .* right now"):
            write_variables(operated, CHANGE, EXPECTED)
        assert b"SECRET=old" in operated.env_path.read_bytes()
        assert not list(operated.env_path.parent.glob("*.unfinished"))
    assert operated.env_path.read_bytes() == BEFORE


def test_writers_of_one_file_take_turns(operated: ServiceProfile) -> None:
    names = [f"KEY_{number}" for number in range(4)]

    def write(name: str) -> None:
        for value in ("1", None, "3"):
            write_variables(operated, {name: value}, {})

    writers = [threading.Thread(target=write, args=(name,)) for name in names]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert read_variables(operated) == {
        **parse(BEFORE.decode()),
        **dict.fromkeys(names, "3"),
    }


def test_a_writer_that_hangs_is_named_and_not_overtaken(
    operated: ServiceProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment_writing, "_LONGEST_WAIT", timedelta(0))
    lock = host_folder(operated) / "env-file.lock"
    with (
        hold_file(lock, "The env file of invoice", "something", "clever-otter", timedelta(0), print),
        pytest.raises(LeaseHeldError, match=r"The env file of invoice is held by clever-otter"),
    ):
        write_variables(operated, CHANGE, EXPECTED)
    assert is_untouched(operated)


def test_a_symbolic_link_is_followed_and_stays(operated: ServiceProfile, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    operated.env_path.rename(shared / "production.env")
    operated.env_path.symlink_to("../shared/production.env")
    write_variables(operated, CHANGE, EXPECTED)
    assert operated.env_path.readlink() == Path("../shared/production.env")
    assert (shared / "production.env").read_bytes() == AFTER
    assert [path.name for path in shared.iterdir()] == ["production.env"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o400])
def test_the_mode_stays_whatever_the_umask(operated: ServiceProfile, mode: int) -> None:
    operated.env_path.chmod(mode)
    before = os.umask(0o077)
    try:
        write_variables(operated, CHANGE, EXPECTED)
    finally:
        os.umask(before)
    assert stat.S_IMODE(operated.env_path.stat().st_mode) == mode


@as_root
def test_owner_group_and_attributes_stay(operated: ServiceProfile) -> None:
    os.chown(operated.env_path, 65534, 12345)
    operated.env_path.chmod(0o640)
    attributes = {"user.note": b"rotated every year"}
    for name, value in attributes.items():
        try:
            os.setxattr(operated.env_path, name, value)
        except OSError:
            attributes = {}
    write_variables(operated, CHANGE, EXPECTED)
    status = operated.env_path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (65534, 12345, 0o640)
    kept = {name: os.getxattr(operated.env_path, name) for name in os.listxattr(operated.env_path)}
    assert attributes.items() <= kept.items()


@as_root
def test_a_worker_that_may_not_keep_the_owner_changes_nothing(
    operated: ServiceProfile, tmp_path: Path
) -> None:
    host_folder(operated)
    for path in [*operated.env_path.parent.parent.rglob("*")]:
        os.chown(path, 65534, 65534)
    os.chown(operated.env_path, 12345, 12345)
    operated.env_path.chmod(0o644)
    assert "the worker's user may not do that" in written_by_nobody(operated, tmp_path)
    assert is_untouched(operated)


@as_root
def test_a_folder_in_which_nothing_may_be_made_is_named_and_nothing_changes(
    operated: ServiceProfile, tmp_path: Path
) -> None:
    host_folder(operated)
    for path in (operated.state_directory, host_folder(operated), operated.env_path):
        os.chown(path, 65534, 65534)
    said = written_by_nobody(operated, tmp_path)
    assert said.startswith(f"{operated.env_path}")
    assert "may not do that" in said
    assert is_untouched(operated)


def written_by_nobody(profile: ServiceProfile, tmp_path: Path) -> str:
    """Write in a process of an ordinary user; return the error's sentence."""
    for folder in [tmp_path, *tmp_path.parents][:-2]:
        folder.chmod(folder.stat().st_mode | 0o711)
    hear, tell = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            write_variables(profile, CHANGE, EXPECTED)
            said = "written"
        except AccessDeniedError as error:
            said = str(error)
        except BaseException as error:  # noqa: BLE001  the child must not run the other tests
            said = repr(error)
        os.write(tell, said.encode())
        os._exit(0)
    os.waitpid(process, 0)
    os.close(tell)
    with os.fdopen(hear) as answer:
        return answer.read()


def test_a_file_with_two_names_is_not_torn_apart(operated: ServiceProfile, tmp_path: Path) -> None:
    (tmp_path / "other-name").hardlink_to(operated.env_path)
    with pytest.raises(RefusedError, match="has 2 names"):
        write_variables(operated, CHANGE, EXPECTED)
    assert is_untouched(operated)


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (Path.unlink, ConfigurationError, "does not exist"),
        (lambda path: (path.unlink(), path.mkdir()), AccessDeniedError, "cannot be read"),
        (lambda path: path.write_bytes(b"KEY=\xff"), ConfigurationError, "is not UTF-8 text"),
    ],
)
def test_what_is_no_env_file_is_said_to_be_none(
    operated: ServiceProfile, make: Callable[[Path], object], kind: type[Exception], said: str
) -> None:
    make(operated.env_path)
    with pytest.raises(kind, match=said):
        write_variables(operated, CHANGE, {})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@as_root
def test_on_a_full_disk_nothing_changes_and_a_sentence_says_why(
    operated: ServiceProfile, small_disk: Path
) -> None:
    application = operated.application.model_copy(update={"directory": small_disk})
    profile = operated.model_copy(update={"application": application})
    before = BEFORE + b"FILLER=" + b"x" * 8_000 + b"\n"
    profile.env_path.write_bytes(before)
    with (small_disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(b"x" * 4096):
            pass
    with pytest.raises(StoreFullError, match="there is no room left on the disk"):
        write_variables(profile, CHANGE, EXPECTED)
    assert profile.env_path.read_bytes() == before
    assert sorted(path.name for path in small_disk.iterdir()) == [".env", "filler"]
    (small_disk / "filler").unlink()
    write_variables(profile, CHANGE, EXPECTED)
    assert read_variables(profile)["SECRET"] == "new"


@as_root
def test_on_a_disk_that_cannot_be_written_nothing_changes(operated: ServiceProfile, small_disk: Path) -> None:
    application = operated.application.model_copy(update={"directory": small_disk})
    profile = operated.model_copy(update={"application": application})
    profile.env_path.write_bytes(BEFORE)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(AccessDeniedError, match="its disk can only be read"):
        write_variables(profile, CHANGE, EXPECTED)
    assert is_untouched(profile)


def test_a_writer_killed_at_any_line_leaves_the_old_file_or_the_new_one(
    operated: ServiceProfile, start_child: StartChild
) -> None:
    operated.env_path.chmod(0o640)
    process, hear = start_child("die_at_each_line", operated)
    seen = []
    while hear.poll(60):
        try:
            seen.append(hear.recv())
        except EOFError:
            break
    process.join(60)
    assert process.exitcode == 0
    contents = [left[".env"] for left in seen]
    assert set(contents) == {BEFORE, AFTER}
    # Once it is written it stays, and the writer that came to its end left nothing else.
    assert contents == sorted(contents, reverse=True)
    assert seen[-1] == {".env": AFTER}
    assert any(len(left) > 1 for left in seen)
    assert len(seen) > 40


def test_what_a_killed_writer_left_goes_with_the_next(operated: ServiceProfile) -> None:
    leftover = operated.env_path.with_name(".env.unfinished")
    leftover.write_bytes(b"SECRET=half a secr")
    write_variables(operated, CHANGE, EXPECTED)
    assert operated.env_path.read_bytes() == AFTER
    leftover.write_bytes(b"SECRET=half a secr")
    write_variables(operated, CHANGE, EXPECTED)
    assert not leftover.exists()
