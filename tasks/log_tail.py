"""Read the end of a log file and of those that it was rotated into: never more than a few megabytes."""

import gzip
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from tasks.errors import RunbookError, SourceError

MOST_BYTES = 2 << 20
# A packed file can only be read from its beginning.
_MOST_UNPACKED_BYTES = 64 << 20
_PIECE_BYTES = 1 << 20
# As error.log.1, error.log-20261122.gz, error-2026-11-22.log and PM2's error__2026-11-22_00-00-00.log.
_ROTATED = r"{stem}(?:[._-]{{1,2}}\d{{4}}-?\d\d-?\d\d[\d_T-]*)?{suffix}(?:\.\d+|-\d{{8}}(?:-?\d+)?)?(?:\.gz)?"


@dataclass(frozen=True)
class Tail:
    """The end of a file: whole lines, oldest first."""

    path: Path
    lines: tuple[str, ...]
    bytes_read: int
    cut: bool
    """Whether the file has more than was read."""
    written_at: datetime
    """When it was last written to, aware, UTC."""


def find_files(path: Path, since: datetime) -> list[Path]:
    """Given a log file, return it and those it was rotated into that were written since, oldest first.

    Raise ``SourceError`` if there is none at all, or if the folder cannot be looked into.
    """
    rotated = re.compile(_ROTATED.format(stem=re.escape(path.stem), suffix=re.escape(path.suffix)))
    with _complaining(path):
        found = [
            (status.st_mtime, entry.path)
            for entry in os.scandir(path.parent)
            if rotated.fullmatch(entry.name)
            and (status := _look(entry)) is not None
            and stat.S_ISREG(status.st_mode)
        ]
    if not found:
        raise SourceError(f"{path} is not there")
    return [Path(name) for written, name in sorted(found) if written >= since.timestamp()]


def _look(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except FileNotFoundError:
        # A link that leads nowhere, or a file that is rotated away at this moment.
        return None


def read_tail(path: Path, most: int = MOST_BYTES) -> Tail:
    """Given a file, return its end, so many bytes; raise ``SourceError`` if it cannot be read."""
    with _complaining(path), _open(path) as file:
        written_at = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)
        content, cut = _unpack(file, most) if path.suffix == ".gz" else _read_end(file, most)
    bytes_read = len(content)
    if cut:
        # What is left of a line whose beginning was not read.
        content = content[content.find(b"\n") + 1 :]
    # A UTF-8 mark at the beginning, and Windows' line ends.
    text = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace").replace("\r\n", "\n")
    return Tail(
        path=path,
        lines=tuple(text.removesuffix("\n").split("\n")) if text else (),
        bytes_read=bytes_read,
        cut=cut,
        written_at=written_at,
    )


def _open(path: Path) -> IO[bytes]:
    # A pipe by this name would let us wait for ever for somebody to write.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SourceError(f"{path} is no file")
    return os.fdopen(descriptor, "rb")


def _read_end(file: IO[bytes], most: int) -> tuple[bytes, bool]:
    start = max(0, file.seek(0, os.SEEK_END) - most)
    file.seek(start)
    # It may grow while it is read.
    return file.read(most), start > 0


def _unpack(file: IO[bytes], most: int) -> tuple[bytes, bool]:
    end, cut, total = b"", False, 0
    with gzip.open(file) as unpacked:
        for piece in _pieces(unpacked):
            total += len(piece)
            if total > _MOST_UNPACKED_BYTES:
                raise SourceError(f"{file.name} is too large to unpack for a look")
            cut = cut or len(end) + len(piece) > most
            end = (end + piece)[-most:]
    return end, cut


def _pieces(file: gzip.GzipFile) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece


@contextmanager
def _complaining(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise SourceError(f"{path} is not there") from None
    except PermissionError:
        raise SourceError(f"{path} may not be read by the worker's user") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise SourceError(f"{path} is no whole gzip file") from None
    except RunbookError:
        raise
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror})") from None
