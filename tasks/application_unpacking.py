"""Unpack an application's archive into a new folder, trusting nothing that it says, and prove what is there.

Python's own filter is not used: it changes modes, which are part of what was saved, and judges a link by what
stands there when the link is made, so that two links together can lead out.
"""

import os
import shutil
import stat
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tasks.application_files import ChunkReader, read_files
from tasks.application_tree import remove_folder
from tasks.errors import DamagedSetError
from tasks.file_owner import give_owner
from tasks.host_errors import naming_file
from tasks.records.application_tree import TreePaths
from tasks.records.backup import ApplicationContent
from tasks.retrying import retried
from tasks.set_folder import SetFolder, SetLocation
from tasks.streams import GZIP

_CHUNK_BYTES = 1 << 20
_SET_ID_BITS: Final = stat.S_ISUID | stat.S_ISGID
_PERMISSIONS: Final = 0o7777
_USUAL_MODE: Final = 0o755
# What a file system can hold, and no year 2242: an archive can claim any number.
_LATEST_SECOND: Final = 1 << 33


@retried
def unpack_application(content: ApplicationContent, location: SetLocation, paths: TreePaths) -> None:
    """Given a set's application, unpack it into ``paths.beside``, and read back that it is what was saved.

    Raise ``DamagedSetError`` if the archive holds what no backup of ours writes or is not what the manifest
    says, ``StoreFullError`` if there is no room, ``AccessDeniedError`` if the worker may not write there.
    """
    remove_folder(paths, paths.beside)
    with naming_file(paths.beside):
        paths.beside.mkdir(mode=0o700)
        unpack(SetFolder(location).load(content.archive.key, GZIP), content, paths)
    found = read_files(paths.beside)
    if (found.files, found.content_hash) != (content.files, content.content_hash):
        raise DamagedSetError(
            f"{content.archive.key} was unpacked into {paths.beside}, and the files there are not those that "
            "were saved: restore another set."
        )


def unpack(raw: Iterable[bytes], content: ApplicationContent, paths: TreePaths) -> None:
    """Given an archive's raw bytes, unpack it into the empty folder; raise ``DamagedSetError`` as above."""
    tree = _Tree(paths)
    reader = ChunkReader(_at_most(raw, content))
    try:
        with tarfile.open(fileobj=reader, mode="r|", bufsize=_CHUNK_BYTES) as archive:
            for number, member in enumerate(archive, start=1):
                if number > content.files:
                    raise DamagedSetError(
                        f"{content.archive.key} holds more than the {content.files} files of its manifest."
                    )
                tree.put(member, archive)
    except (tarfile.TarError, EOFError) as error:
        raise DamagedSetError(f"{content.archive.key} is damaged ({error}).") from None
    tree.finish()


def _at_most(raw: Iterable[bytes], content: ApplicationContent) -> Iterator[bytes]:
    """Yield the chunks; a disk is not filled by more than the manifest speaks of."""
    left = content.archive.raw_bytes
    for chunk in raw:
        left -= len(chunk)
        if left < 0:
            raise DamagedSetError(
                f"{content.archive.key} is larger than the {content.archive.raw_bytes} bytes of its manifest."
            )
        yield chunk


class _Tree:
    """The folder that grows, member by member; a parent is always a folder of our own, never a link."""

    def __init__(self, paths: TreePaths) -> None:
        self._root, self._present = paths.beside, paths.directory
        self._folders: dict[str, tarfile.TarInfo] = {}
        self._links: list[tarfile.TarInfo] = []

    def put(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        """Unpack one member."""
        self._check(member)
        path = self._root / member.name
        try:
            if member.isdir():
                path.mkdir(mode=0o700)
                self._folders[member.name] = member
            elif member.issym():
                path.symlink_to(member.linkname)
                self._links.append(member)
            else:
                self._put_file(path, member, archive)
        except FileExistsError:
            raise _unwanted(member, "stands there twice") from None
        self._give_owner(path, member)

    def finish(self) -> None:
        """Check where the links lead, now that all is there, and give the folders their modes and times."""
        for member in self._links:
            self._check_link(member)
        # The innermost first: a folder's time is that of its last change.
        for name in sorted(self._folders, reverse=True):
            path, member = self._root / name, self._folders[name]
            path.chmod(member.mode & _PERMISSIONS)
            _give_time(path, member)
        present = self._lstat(self._present)
        # One for all: the old files go once the new ones are in place.
        os.sync()
        self._root.chmod(_USUAL_MODE if present is None else stat.S_IMODE(present.st_mode))
        if present is not None:
            give_owner(self._root, present.st_uid, present.st_gid)

    def _put_file(self, path: Path, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        source = archive.extractfile(member)
        with path.open("xb") as file:
            if source is not None:
                shutil.copyfileobj(source, file, _CHUNK_BYTES)
        path.chmod(member.mode & _PERMISSIONS)
        _give_time(path, member)

    def _check(self, member: tarfile.TarInfo) -> None:
        parts = member.name.split("/")
        if not member.name or {"", ".", ".."} & set(parts) or "\0" in member.name + member.linkname:
            raise _unwanted(member, "is no name below the application's directory")
        parent = "/".join(parts[:-1])
        if parent and parent not in self._folders:
            raise _unwanted(member, "lies in no folder of the archive")
        if member.type not in {tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE} or member.issparse():
            raise _unwanted(member, "is neither a plain file nor a folder nor a symbolic link")
        if member.type == tarfile.REGTYPE and member.mode & _SET_ID_BITS:
            raise _perhaps_wanted(
                member,
                "would run with its owner's or group's rights, which no archive may give",
                "restore the files by hand",
            )

    def _check_link(self, member: tarfile.TarInfo) -> None:
        """A link leads to somewhere in the tree, or to where the same link of the present tree leads."""
        target = Path(os.path.realpath(self._root / member.name))
        if not Path(member.linkname).is_absolute() and target.is_relative_to(os.path.realpath(self._root)):
            return
        here = self._present / member.name
        if here.is_symlink() and str(here.readlink()) == member.linkname:
            return
        raise _perhaps_wanted(
            member,
            f"is a link out of the application's directory, to {member.linkname!r}, that is not there now",
            f"make it again as {here}, and start again",
        )

    def _give_owner(self, path: Path, member: tarfile.TarInfo) -> None:
        """Give a file the owner that it has now, a new one the directory's."""
        model = self._lstat(self._present / member.name) or self._lstat(self._present)
        owner = (member.uid, member.gid) if model is None else (model.st_uid, model.st_gid)
        give_owner(path, *owner)

    @staticmethod
    def _lstat(path: Path) -> os.stat_result | None:
        try:
            return path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None


def _give_time(path: Path, member: tarfile.TarInfo) -> None:
    if 0 <= member.mtime < _LATEST_SECOND:
        os.utime(path, (member.mtime, member.mtime))


def _unwanted(member: tarfile.TarInfo, why: str) -> DamagedSetError:
    return DamagedSetError(
        f"The application's archive is not unpacked: {member.name[:200]!r} {why}, and no backup of ours may "
        "hold such a thing. Find out who wrote it, and restore another set."
    )


def _perhaps_wanted(member: tarfile.TarInfo, why: str, what: str) -> DamagedSetError:
    """A backup saves such a thing where the application has one."""
    return DamagedSetError(
        f"The application's archive is not unpacked: {member.name[:200]!r} {why}. If it is the application's "
        f"own, {what}; if nobody knows it, find out who wrote the archive."
    )
