"""What a backup repository needs of a store, whatever the store is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True)
class StoredKey:
    """A key under the store's root, its size in bytes and when it was last written (aware)."""

    key: str
    bytes: int
    written_at: datetime


class ObjectStore(Protocol):
    """A flat space of immutable-looking objects under one root. Keys are relative, with slashes.

    Every method raises ``UnreachableError``, ``AccessDeniedError``, ``StoreFullError``,
    ``ConfigurationError`` (no such bucket), ``NotFoundError`` or ``AlreadyExistsError``, naming the store
    and the key, and nothing of the vendor's.
    """

    @property
    def address(self) -> str:
        """The store and its root as a person writes it; no credentials."""
        ...

    def list_keys(self, prefix: str) -> Iterator[StoredKey]:
        """Yield every key that starts with the prefix, in the order of the keys."""
        ...

    def read(self, key: str) -> bytes:
        """Return a small object whole."""
        ...

    def stream(self, key: str, chunk_bytes: int = 1 << 20) -> Iterator[bytes]:
        """Yield a large object in chunks; a connection lost midway is an ``UnreachableError``."""
        ...

    def write(self, key: str, content: bytes) -> None:
        """Write a small object, replacing what is there. Durable on return."""
        ...

    def write_if_absent(self, key: str, content: bytes) -> None:
        """Write a small object; raise ``AlreadyExistsError`` when there is one. Atomic across hosts."""
        ...

    def write_stream(self, key: str, chunks: Iterable[bytes]) -> int:
        """Write what the chunks yield as one object and return its bytes.

        The object appears only after the iterable ended without an error; when it raises, nothing is left
        and the error passes through. Memory stays flat whatever the size.
        """
        ...

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no error."""
        ...

    def discard_unfinished(self, prefix: str, older_than: datetime) -> int:
        """Throw away what killed writers left under the prefix before the moment; return how many."""
        ...
