"""Run PostgreSQL's client programs: found, fed, drained, and judged by how they ended."""

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tasks.errors import (
    AccessDeniedError,
    ConfigurationError,
    RunbookError,
    SourceError,
    StoreFullError,
    UnreachableError,
)
from tasks.postgresql import CONNECTION_LOST, LOCKED, Address
from tasks.records.figures import shorten

_CHUNK_BYTES = 1 << 20
_PIPE_BYTES = 1 << 20
# Of what a program says, the end is kept: that is where it says why it gave up.
_SAID_BYTES = 1 << 16
# An error as the server and the programs mark it, and what both say besides.
_ERROR = re.compile(r"\b(ERROR|FATAL|PANIC|error|fatal):")
_BESIDES = re.compile(r"(\S+: )?(WARNING|NOTICE|DETAIL|HINT|CONTEXT):", re.IGNORECASE)
# What the programs say, which kind of error it is, and our sentence; the first that fits.
_BY_WORDS: tuple[tuple[re.Pattern[str], type[RunbookError], str], ...] = (
    (
        re.compile("server version mismatch"),
        ConfigurationError,
        (
            "{program} is older than the server of {where}: install the server's client programs, or name "
            "their folder in database.client_directory."
        ),
    ),
    (
        re.compile(r'ERROR:  role "(?P<name>.*)" does not exist'),
        ConfigurationError,
        "{program} needs the role {name}, which the server of {where} does not have: create it first.",
    ),
    (
        re.compile("password authentication failed"),
        AccessDeniedError,
        "{where} refuses the password: compare the URL with the server's.",
    ),
    (
        re.compile("permission denied"),
        AccessDeniedError,
        "{program} may not do all that it must on {where}: {reason}.",
    ),
    (
        # pg_dump limits its statements nowhere else.
        re.compile(r"due to statement timeout.*LOCK TABLE (?P<name>.*) IN ACCESS SHARE MODE", re.DOTALL),
        SourceError,
        "{where}, which pg_dump asked for {name}, " + LOCKED + ".",
    ),
    (
        re.compile("No space left on device"),
        StoreFullError,
        "{where} has no disk space left: {reason}.",
    ),
    (CONNECTION_LOST, UnreachableError, "{program} lost {where}: {reason}."),
)


class ClientProgram:
    """A running client program; its standard error is kept for the sentence when it fails."""

    def __init__(self, command: Sequence[str], address: Address | None, stdin: int) -> None:
        """Start the program; the connection goes through its environment, never its command line."""
        self._name = Path(command[0]).name
        self._address = address
        self._process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=address.environment() if address else {"LC_ALL": "C.UTF-8"},
            pipesize=_PIPE_BYTES,
            process_group=0,
        )
        self._said = b""
        # A program whose complaints nobody takes stops and waits for ever.
        self._listener = threading.Thread(target=self._listen, name=f"{self._name}-stderr", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        stderr = _pipe(self._process.stderr)
        while said := os.read(stderr.fileno(), _SAID_BYTES):
            self._said = (self._said + said)[-_SAID_BYTES:]

    def read(self) -> Iterator[bytes]:
        """Yield what the program writes; raise our error if it then ends badly."""
        stdout = _pipe(self._process.stdout)
        while chunk := stdout.read(_CHUNK_BYTES):
            yield chunk
        if (problem := self.finish()) is not None:
            raise problem

    def write(self, chunk: bytes) -> None:
        """Feed the program; one that no longer listens says why in ``finish``."""
        with suppress(BrokenPipeError):
            _pipe(self._process.stdin).write(chunk)

    def end_input(self) -> None:
        """Tell the program that nothing more comes."""
        with suppress(BrokenPipeError):
            _pipe(self._process.stdin).close()

    def finish(self) -> RunbookError | None:
        """Wait for the end; return what to raise if it was a bad one."""
        returncode = self._process.wait()
        if returncode == 0:
            return None
        self._listener.join()
        return _judge(self._name, self._address, returncode, self._said.decode(errors="replace"))

    def kill(self) -> None:
        """Take the program and its own workers away; who feeds it is no longer held up."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the program whatever it is doing."""
        self.kill()
        self._process.wait()
        self._listener.join()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise TypeError("the program was started without this pipe")
    return stream


@contextmanager
def running(
    command: Sequence[str], address: Address | None = None, stdin: int = subprocess.DEVNULL
) -> Generator[ClientProgram]:
    """Run a client program; it ends with the block, however the block ends."""
    program = ClientProgram(command, address, stdin)
    try:
        yield program
    finally:
        program.close()


def find_client(program: str, directory: Path | None) -> str:
    """Given a client program's name, return its path; raise ``ConfigurationError`` if there is none."""
    found = shutil.which(program, path=str(directory) if directory else None)
    if found is None:
        where = f"in {directory}" if directory else "on PATH"
        raise ConfigurationError(
            f"{program} is not {where}: install the PostgreSQL client programs on the worker's host, or name "
            "their folder in database.client_directory."
        )
    return found


def _judge(program: str, address: Address | None, returncode: int, said: str) -> RunbookError:
    reason = _find_reason(said) or f"it ended with code {returncode} and said nothing"
    where = str(address) if address else "the dump"
    for pattern, kind, sentence in _BY_WORDS:
        if (found := pattern.search(said)) is not None:
            return kind(
                sentence.format(
                    program=program,
                    where=where,
                    reason=reason,
                    name=shorten(found.groupdict().get("name", "")),
                )
            )
    return SourceError(f"{program} failed on {where}: {reason}.")


def _find_reason(said: str) -> str:
    """Return the first line that is an error, or else the last that is none of what is said besides."""
    lines = [line for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if not _BESIDES.match(line)]
    errors = [line for line in telling if _ERROR.search(line)]
    found = [*errors[:1], *telling[-1:], *lines[:1], ""]
    return found[0].removesuffix(".")
