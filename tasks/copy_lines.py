r"""The lines of COPY's text format, as PostgreSQL writes them: fields between tabs, ``\N`` for null."""

import re
from typing import Final

_NULL: Final = rb"\N"
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
# https://www.postgresql.org/docs/current/sql-copy.html: the text format
_MEANT: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def split_line(line: bytes) -> list[bytes]:
    """Given a line without its end, return its fields as they are written there."""
    return line.split(b"\t")


def read_field(field: bytes) -> str | None:
    """Given a field as it is written, return its value as the server's own text, or None for null.

    What is no UTF-8, which a server without an encoding may hold, is replaced: it equals no value.
    """
    if field == _NULL:
        return None
    value = _ESCAPED.sub(lambda found: _MEANT.get(found[1], found[1]), field)
    return value.decode(errors="replace")
