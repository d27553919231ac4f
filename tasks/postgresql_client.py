"""Run PostgreSQL's client programs: found, fed, drained, and judged by how they ended."""

import shutil
import subprocess
import tempfile
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
from tasks.postgresql import CONNECTION_LOST, Address

_CHUNK_BYTES = 1 << 20
_PIPE_BYTES = 1 << 20


class ClientProgram:
    """A running client program; its standard error is kept for the sentence when it fails."""

    def __init__(self, command: Sequence[str], address: Address | None, stdin: int) -> None:
        """Start the program; the connection goes through its environment, never its command line."""
        self._name = Path(command[0]).name
        self._address = address
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the program
        self._process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=address.environment() if address else {"LC_ALL": "C.UTF-8"},
            pipesize=_PIPE_BYTES,
        )

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
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace")
        return _judge(self._name, self._address, returncode, said)

    def kill(self) -> None:
        """Take the program away; who feeds it is no longer held up."""
        self._process.kill()

    def close(self) -> None:
        """End the program whatever it is doing."""
        self.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
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
    lines = [line for line in said.splitlines() if line.strip()]
    reason = lines[0].removesuffix(".") if lines else f"it ended with code {returncode} and said nothing"
    where = str(address) if address else "the dump"
    if "server version mismatch" in said:
        return ConfigurationError(
            f"{program} is older than the server of {where}: install the server's client programs, or name "
            "their folder in database.client_directory."
        )
    if "password authentication failed" in said:
        return AccessDeniedError(f"{where} refuses the password: compare the URL with the server's.")
    if "permission denied" in said:
        return AccessDeniedError(f"{program} may not read all of {where}: {reason}.")
    if "No space left on device" in said:
        return StoreFullError(f"{where} has no disk space left: {reason}.")
    if CONNECTION_LOST.search(said):
        return UnreachableError(f"{program} lost {where}: {reason}.")
    return SourceError(f"{program} failed on {where}: {reason}.")
