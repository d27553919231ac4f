"""The entries of an archive's part: raw BSON documents one after another, or lines of COPY's text format."""

from collections.abc import Sequence
from typing import Final, Literal

from tasks.errors import DamagedSetError, SourceError
from tasks.mongodb_dump import decode_documents, split_documents

Kind = Literal["mongodb", "postgresql"]

_LENGTH_BYTES: Final = 4
_LINE_END: Final = b"\n"


def join_entries(kind: Kind, entries: Sequence[bytes]) -> bytes:
    """Given entries, return a part's raw bytes; raise ``SourceError`` if one is no whole entry.

    A line comes without its end, and COPY escapes those within a value, so that it holds none.
    """
    for entry in entries:
        if not (_is_document(entry) if kind == "mongodb" else _LINE_END not in entry):
            what = "one whole BSON document" if kind == "mongodb" else "one line of COPY's text format"
            raise SourceError(
                f"An entry of {len(entry)} bytes is not {what}: it was not put into an archive."
            )
    end = b"" if kind == "mongodb" else _LINE_END
    return b"".join(part for entry in entries for part in (entry, end))


def split_entries(kind: Kind, raw: bytes, place: str) -> tuple[bytes, ...]:
    """Given a part's raw bytes, return its entries; raise ``DamagedSetError`` if they do not end with one.

    Every document is decoded.
    """
    if kind == "mongodb":
        documents = tuple(found for batch in split_documents([raw], place) for found in batch)
        decode_documents([documents], place)
        return documents
    *lines, rest = raw.split(_LINE_END)
    if rest:
        raise DamagedSetError(f"{place} ends in the middle of a line.")
    return tuple(lines)


def _is_document(entry: bytes) -> bool:
    return len(entry) > _LENGTH_BYTES and int.from_bytes(entry[:_LENGTH_BYTES], "little") == len(entry)
