r"""Find each table's rows in the SQL that pg_restore and pg_dump write, at the speed of memory. Pure.

In COPY's text form every row is one line and a line ``\.`` ends the table, because a backslash in the data is
doubled and a newline is written ``\n``. Outside of the rows, data-only output has no text of the user's.
"""

import hashlib
import re

from tasks.records.backup import TableFacts

_NAME = rb'(?:"(?:[^"]|"")+"|[^" .(]+)'
# A table without columns leaves two spaces where they would stand.
_COPY = re.compile(rb"COPY (?P<table>%b(?:\.%b)?) (?:\((?P<columns>.*)\))? ?FROM stdin;" % (_NAME, _NAME))
_SEQUENCE = b"SELECT pg_catalog.setval("
_END = b"\n\\.\n"


class CopySections:
    """Takes data-only SQL in chunks of any size; has the facts of each table when it is closed."""

    def __init__(self) -> None:
        """Start before the first statement."""
        self.tables: list[TableFacts] = []
        self.sequence_values: list[str] = []
        self._window = b""
        self._table: tuple[str, str] | None = None
        self._digest = hashlib.sha256()
        self._rows = 0
        self._unhashed = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk in."""
        self._window += chunk
        while self._read_rows() if self._table else self._read_line():
            pass

    def close(self) -> bool:
        """Say whether the input ended where it may: after a statement, not within a table."""
        return self._table is None and not self._window.strip()

    def _read_line(self) -> bool:
        line, newline, rest = self._window.partition(b"\n")
        if not newline:
            return False
        if found := _COPY.fullmatch(line):
            columns = found["columns"] or b""
            self._table = (found["table"].decode(), columns.decode())
            self._digest, self._rows = hashlib.sha256(), 0
            # The end mark may follow at once: keep this line's newline for it, but do not hash it.
            self._unhashed = 1
            rest = b"\n" + rest
        elif line.startswith(_SEQUENCE):
            self.sequence_values.append(line.decode())
        self._window = rest
        return True

    def _read_rows(self) -> bool:
        end = self._window.find(_END)
        if end < 0:
            # The last bytes may be the beginning of an end mark.
            keep = len(_END) - 1
            if len(self._window) > keep:
                self._take(self._window[:-keep])
                self._window = self._window[-keep:]
            return False
        self._take(self._window[: end + 1])
        table, columns = self._table or ("", "")
        self.tables.append(
            TableFacts(table=table, columns=columns, rows=self._rows, content_hash=self._digest.hexdigest())
        )
        self._table = None
        self._window = self._window[end + len(_END) :]
        return True

    def _take(self, rows: bytes) -> None:
        rows = rows[self._unhashed :] if self._unhashed else rows
        self._unhashed = 0
        self._digest.update(rows)
        self._rows += rows.count(b"\n")
