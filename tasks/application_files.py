"""Save the application's files as a tar archive, streamed, and read such an archive back."""

import hashlib
import io
import os
import tarfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from tasks.errors import AccessDeniedError, ConfigurationError, DamagedSetError, SourceError
from tasks.host_errors import naming_file
from tasks.records.application import Application
from tasks.records.backup import ApplicationContent, ApplicationFacts
from tasks.retrying import retried
from tasks.set_folder import SetFolder, SetLocation
from tasks.streams import GZIP

ARCHIVE_KEY = "application/application.tar.gz"
_CHUNK_BYTES = 1 << 20
# An archive keeps the permissions of st_mode, not its file type.
_PERMISSIONS = 0o7777


class _Inventory:
    """Counts and hashes an archive's members; the same for an archive written and one read."""

    def __init__(self) -> None:
        self.files = 0
        self._digest = hashlib.sha256()

    def add(self, member: tarfile.TarInfo, content_sha256: str) -> None:
        """Take a member in, in the order of the archive."""
        self.files += 1
        permissions = member.mode & _PERMISSIONS
        line = f"{member.name}\0{member.type!r}\0{permissions:o}\0{member.linkname}\0{content_sha256}\n"
        self._digest.update(line.encode(errors="surrogateescape"))

    def facts(self) -> ApplicationFacts:
        """Return what was counted and hashed."""
        return ApplicationFacts(files=self.files, content_hash=self._digest.hexdigest())


@retried
def save_application(application: Application, location: SetLocation) -> ApplicationContent:
    """Given the application, save its files but the excluded ones into the set; return what was saved.

    Members are named relative to the application's directory. Raise ``ConfigurationError`` if there is no
    such directory, ``AccessDeniedError`` if a file cannot be read, ``SourceError`` if one shrank meanwhile.
    """
    started = time.monotonic()
    inventory = _Inventory()
    raw = _archive(application.directory, application.exclude_from_backup, inventory)
    archive = SetFolder(location).save(ARCHIVE_KEY, raw, GZIP)
    facts = inventory.facts()
    return ApplicationContent(**facts.model_dump(), archive=archive, seconds=time.monotonic() - started)


def read_files(directory: Path) -> ApplicationFacts:
    """Given a folder, read all of it as for an archive, and return its facts."""
    inventory = _Inventory()
    for _ in _archive(directory, (), inventory):
        pass
    return inventory.facts()


def list_files(directory: Path, excluded: Sequence[str]) -> Iterator[Path]:
    """Yield every path below the directory whose name, and whose parents' names, match no pattern.

    Raise ``FileNotFoundError`` or ``NotADirectoryError`` if it is no directory, ``AccessDeniedError`` if it
    cannot be read.
    """
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except PermissionError:
        raise AccessDeniedError(
            f"The worker may not read {directory}: let its user read the application."
        ) from None
    for entry in entries:
        if any(fnmatch(entry.name, pattern) for pattern in excluded):
            continue
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            # A folder may be gone as well between listing and reading.
            with suppress(FileNotFoundError, NotADirectoryError):
                yield from list_files(Path(entry.path), excluded)


def _archive(directory: Path, excluded: Sequence[str], inventory: _Inventory) -> Iterator[bytes]:
    with naming_file(directory):
        is_there = directory.is_dir()
    if not is_there:
        raise ConfigurationError(
            f"The application's directory {directory} does not exist: correct application.directory."
        )
    names = tarfile.TarFile(fileobj=io.BytesIO(), mode="w")
    for path in list_files(directory, excluded):
        try:
            yield from _member(names, path, str(path.relative_to(directory)), inventory)
        except FileNotFoundError:
            # Gone between listing and reading, as temporary files go: it is not in the archive.
            continue
        except PermissionError:
            raise AccessDeniedError(
                f"The worker may not read {path}: let its user read it, or exclude it from the backup."
            ) from None
    yield bytes(2 * tarfile.BLOCKSIZE)


def _member(names: tarfile.TarFile, path: Path, name: str, inventory: _Inventory) -> Iterator[bytes]:
    if not path.is_symlink() and path.is_file():
        with path.open("rb") as file:
            member = names.gettarinfo(arcname=name, fileobj=file)
            # A second name of the same file is a file of its own: unpacking one must not need the other.
            member.type, member.linkname, member.size = tarfile.REGTYPE, "", os.fstat(file.fileno()).st_size
            yield _header(member)
            digest = hashlib.sha256()
            yield from _contents(file, member.size, path, digest)
            inventory.add(member, digest.hexdigest())
        return
    if not (path.is_symlink() or path.is_dir()):
        # A pipe, a socket or a device holds nothing, and no restore would make one.
        return
    member = names.gettarinfo(str(path), arcname=name)
    yield _header(member)
    inventory.add(member, "")


def _header(member: tarfile.TarInfo) -> bytes:
    return member.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")


def _contents(file: io.BufferedReader, size: int, path: Path, digest: "hashlib._Hash") -> Iterator[bytes]:
    remaining = size
    while remaining:
        chunk = file.read(min(_CHUNK_BYTES, remaining))
        if not chunk:
            raise SourceError(f"{path} became shorter while it was saved: run the backup again.")
        remaining -= len(chunk)
        digest.update(chunk)
        yield chunk
    if padding := -size % tarfile.BLOCKSIZE:
        yield bytes(padding)


class ChunkReader(io.RawIOBase):
    """Makes a file of chunks, for tarfile."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        """Take the chunks; none is read yet."""
        super().__init__()
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        """Return so many bytes, or all."""
        while size < 0 or len(self._rest) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._rest += chunk
        cut = len(self._rest) if size < 0 else size
        wanted, self._rest = self._rest[:cut], self._rest[cut:]
        return wanted


def read_archive(raw: Iterable[bytes]) -> ApplicationFacts:
    """Read a tar archive in full and return its facts; raise ``DamagedSetError`` if it is damaged."""
    inventory = _Inventory()
    reader = ChunkReader(raw)
    try:
        with tarfile.open(fileobj=reader, mode="r|", bufsize=_CHUNK_BYTES) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isreg() else None
                digest = hashlib.sha256()
                while file is not None and (chunk := file.read(_CHUNK_BYTES)):
                    digest.update(chunk)
                inventory.add(member, digest.hexdigest() if file is not None else "")
    except (tarfile.TarError, EOFError) as error:
        raise DamagedSetError(f"The application's archive is damaged ({error}).") from None
    # What follows the last member is read too: the compression's end mark stands there.
    while reader.read(_CHUNK_BYTES):
        pass
    return inventory.facts()
