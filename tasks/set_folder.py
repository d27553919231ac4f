"""The folder of one backup set: its objects go in and come out compressed, measured and hashed."""

from collections.abc import Iterable, Iterator

from pydantic import BaseModel, ConfigDict

from tasks.opening_stores import open_store
from tasks.records.backup import StoredObject
from tasks.records.service import Destination
from tasks.streams import ByteCounter, Meter, compress, decompress


class SetLocation(BaseModel):
    """Where a set lies: the record that tasks hand on, each opening the store for itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    destination: Destination
    folder: str


class SetFolder:
    """A set's folder, opened."""

    def __init__(self, location: SetLocation) -> None:
        """Open the store of the location."""
        self._store = open_store(location.destination)
        self._folder = location.folder

    def save(self, key: str, raw: Iterable[bytes], method: str) -> StoredObject:
        """Given raw chunks, store them compressed under the key; return what was stored.

        Nothing is stored when the chunks raise.
        """
        before = ByteCounter()
        after = Meter()
        packed = after.watch(compress(before.watch(raw), method))
        self._store.write_stream(f"{self._folder}/{key}", packed)
        return StoredObject(key=key, bytes=after.bytes, sha256=after.sha256, raw_bytes=before.bytes)

    def keys(self) -> set[str]:
        """Return the keys of all that lies in the folder, relative to it."""
        prefix = f"{self._folder}/"
        return {stored.key.removeprefix(prefix) for stored in self._store.list_keys(prefix)}

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield an object as it is stored."""
        return self._store.stream(f"{self._folder}/{key}")

    def load(self, key: str, method: str) -> Iterator[bytes]:
        """Yield an object's raw chunks; raise ``DamagedSetError`` if it does not decompress."""
        return decompress(self.stream(key), method)
