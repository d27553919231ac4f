"""Records of the application's files on their host: what stands there, what a restore calls its folders."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TreePaths(_Record):
    """The application's directory, and the folders beside it in which a restore works.

    ``beside`` becomes the directory, and the directory becomes ``aside``: all three have one parent, so
    that each change of places is one rename.
    """

    directory: Path
    beside: Path
    aside: Path


class OwnedPath(_Record):
    """A path, and the name of the user whom it belongs to."""

    path: Path
    owner: str


class TreeFacts(_Record):
    """What stands at the application's directory; a symlink there was followed.

    ``identity`` is "device:inode", and ``top_level`` a hash of the names there, with size and time of the
    files among them; both are empty where nothing stands. ``changed`` counts the files that changed after
    the set was made. ``siblings`` are the names beside it. ``of_another`` is the first path that is not the
    worker's user's, whom ``as_root`` says to be root.
    """

    directory: Path
    kind: Literal["missing", "folder", "other"]
    identity: str
    top_level: str
    files: int
    changed: int
    has_env: bool
    mounts: tuple[Path, ...]
    siblings: tuple[str, ...]
    parent_writable: bool
    free_bytes: int
    of_another: OwnedPath | None
    as_root: bool
