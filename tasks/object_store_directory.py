"""An object store on a local folder: a backup disk, or a share that is mounted.

An object is one file. It is written under a temporary name beside its place and gets its own name when it is
whole and on the disk, so that no reader ever sees half of it, whenever the writer is killed.
"""

import contextlib
import os
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tasks.errors import AlreadyExistsError, ConfigurationError, NotFoundError, UnreachableError
from tasks.object_store import StoredKey
from tasks.object_store_directory_errors import translated

# Independent of the object's own name, which may already be as long as a file system allows.
UNFINISHED_SUFFIX: Final = ".unfinished"
FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
# A deletion beside us may take an empty folder away between its making and our first file in it.
FOLDER_TRIES: Final = 5
LINKS_AFTER_A_LINK: Final = 2


class DirectoryStore:
    """An ``ObjectStore`` on a folder. It makes folders with mode 700 and files with mode 600."""

    def __init__(self, root: Path) -> None:
        """Given the root folder, which is there already.

        It is never made: where its disk is not mounted, that would be an empty store on the disk below. Raise
        ``UnreachableError`` if it is missing.
        """
        self._root = root.absolute()
        with translated(self._root, ""):
            is_folder, is_there = self._root.is_dir(), self._root.exists()
        if not is_there:
            raise UnreachableError(
                f"The backup folder {root} does not exist: mount its disk, or correct the destination's url. "
                "For a new one make the folder once, on the mounted disk; no runbook does."
            )
        if not is_folder:
            raise ConfigurationError(f"The backup folder {root} is no folder: correct the destination's url.")
        self._real_root = self._root.resolve()

    @property
    def address(self) -> str:
        """The folder as a URL."""
        return self._root.as_uri()

    def list_keys(self, prefix: str) -> Iterator[StoredKey]:
        """Yield every key that starts with the prefix, in the order of the keys."""
        found = [stored for stored in self._files(prefix) if not stored.key.endswith(UNFINISHED_SUFFIX)]
        yield from sorted(found, key=lambda stored: stored.key)

    def read(self, key: str) -> bytes:
        """Return a small object whole."""
        with translated(self._root, key):
            return self._path(key).read_bytes()

    def stream(self, key: str, chunk_bytes: int = 1 << 20) -> Iterator[bytes]:
        """Yield a large object in chunks."""
        with translated(self._root, key):
            file = self._path(key).open("rb", buffering=0)
        with file:
            while True:
                with translated(self._root, key):
                    chunk = file.read(chunk_bytes)
                if not chunk:
                    return
                yield chunk

    def write(self, key: str, content: bytes) -> None:
        """Write a small object, replacing what is there. Durable on return."""
        self.write_stream(key, [content])

    def write_if_absent(self, key: str, content: bytes) -> None:
        """Write a small object; raise ``AlreadyExistsError`` if there is one, whoever wrote it."""
        path = self._path(key)
        with self._unfinished(key, path) as (temporary, descriptor):
            with translated(self._root, key):
                _write_whole(descriptor, content)
                os.fsync(descriptor)
            try:
                with translated(self._root, key):
                    os.link(temporary, path)
            except AlreadyExistsError:
                # Over NFS our own link may be answered with "exists" when the question was sent twice.
                if temporary.stat().st_nlink != LINKS_AFTER_A_LINK:
                    raise
            self._folder_to_disk(key, path.parent)

    def write_stream(self, key: str, chunks: Iterable[bytes]) -> int:
        """Write what the chunks yield as one object and return its bytes.

        When the iterable raises, nothing is left and its error passes through.
        """
        path, written = self._path(key), 0
        with self._unfinished(key, path) as (temporary, descriptor):
            for chunk in chunks:
                with translated(self._root, key):
                    _write_whole(descriptor, chunk)
                written += len(chunk)
            with translated(self._root, key):
                os.fsync(descriptor)
                temporary.replace(path)
            self._folder_to_disk(key, path.parent)
        return written

    def delete(self, key: str) -> None:
        """Delete an object and the folders that it leaves empty; one that is not there is no error."""
        path = self._path(key)
        with contextlib.suppress(NotFoundError), translated(self._root, key):
            path.unlink()
            self._folder_to_disk(key, path.parent)
        self._drop_empty_folders(path.parent)

    def discard_unfinished(self, prefix: str, older_than: datetime) -> int:
        """Throw away what killed writers left under the prefix before the moment; return how many."""
        left = [
            stored.key
            for stored in self._files(prefix)
            if stored.key.endswith(UNFINISHED_SUFFIX) and stored.written_at < older_than
        ]
        for key in left:
            with contextlib.suppress(NotFoundError), translated(self._root, key):
                self._root.joinpath(key).unlink()
            self._drop_empty_folders(self._root.joinpath(key).parent)
        return len(left)

    def _path(self, key: str) -> Path:
        """Given a key, return its file; raise ``ConfigurationError`` if that is outside the root."""
        parts = key.split("/")
        if not {"", ".", ".."}.isdisjoint(parts) or "\0" in key or key.endswith(UNFINISHED_SUFFIX):
            raise ConfigurationError(f"{self.address}: {key!r} cannot be the key of an object.")
        path = self._root.joinpath(*parts)
        if not path.resolve().is_relative_to(self._real_root):
            raise ConfigurationError(f"{self.address}: {key} leads out of the store through a link.")
        return path

    def _files(self, prefix: str) -> Iterator[StoredKey]:
        """Yield every file whose key starts with the prefix, the unfinished ones too, in no order."""
        start = prefix.rpartition("/")[0]
        folders = [self._path(start) if start else self._root]
        for folder in folders:
            for entry in self._entries(folder, prefix):
                key = Path(entry.path).relative_to(self._root).as_posix()
                if entry.is_dir(follow_symlinks=False):
                    if key.startswith(prefix) or prefix.startswith(f"{key}/"):
                        folders.append(Path(entry.path))
                elif key.startswith(prefix) and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(NotFoundError), translated(self._root, key):
                        yield _stored(key, entry.stat(follow_symlinks=False))

    def _entries(self, folder: Path, prefix: str) -> list["os.DirEntry[str]"]:
        """List a folder; one that a deletion took away meanwhile is empty, a missing root is an error."""
        with (
            contextlib.suppress(NotFoundError),
            translated(self._root, prefix),
            contextlib.suppress(NotADirectoryError),
            os.scandir(folder) as entries,
        ):
            return list(entries)
        return []

    @contextlib.contextmanager
    def _unfinished(self, key: str, path: Path) -> Iterator[tuple[Path, int]]:
        """Open a temporary file beside the path; whatever happens, its name is gone afterwards."""
        temporary = path.with_name(f".{uuid.uuid4().hex}{UNFINISHED_SUFFIX}")
        with translated(self._root, key):
            descriptor = self._create(temporary)
        try:
            yield temporary, descriptor
        finally:
            # Neither may hide why we are here, and what was renamed is no longer there.
            with contextlib.suppress(OSError):
                temporary.unlink()
            with contextlib.suppress(OSError):
                os.close(descriptor)
            self._drop_empty_folders(path.parent)

    def _create(self, temporary: Path) -> int:
        for _ in range(FOLDER_TRIES):
            with contextlib.suppress(FileNotFoundError):
                self._make_folders(temporary.parent)
                return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        self._make_folders(temporary.parent)
        return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)

    def _make_folders(self, folder: Path) -> None:
        """Make the folders between the root and this one, each of them durably; never the root."""
        for name in reversed(folder.relative_to(self._root).parents[:-1]):
            self._make_folder(self._root / name)
        if folder != self._root:
            self._make_folder(folder)

    def _make_folder(self, folder: Path) -> None:
        try:
            folder.mkdir(mode=FOLDER_MODE)
        except FileExistsError:
            return
        _sync_folder(folder.parent)

    def _drop_empty_folders(self, folder: Path) -> None:
        """Remove the folder and those above it while they are empty; the root stays."""
        with contextlib.suppress(OSError):
            while folder != self._root:
                folder.rmdir()
                folder = folder.parent

    def _folder_to_disk(self, key: str, folder: Path) -> None:
        with translated(self._root, key):
            _sync_folder(folder)


def _stored(key: str, status: os.stat_result) -> StoredKey:
    return StoredKey(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _write_whole(descriptor: int, content: bytes) -> None:
    """Write all of it: a disk that fills up takes a part first and complains at the next call."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync_folder(folder: Path) -> None:
    """Make the names in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
