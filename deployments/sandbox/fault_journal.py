"""What is broken now, and how each of it is undone, as it is kept in the state folder."""

import json
import shutil
from pathlib import Path
from typing import Any

from deployments.sandbox.vault import write_private

Undo = list[Any]
# What a start undoes by itself, and what the end of every process does: neither file nor data were touched.
UNDONE_BY_UP = frozenset({"kill", "start", "restart"})
UNDONE_BY_DOWN = UNDONE_BY_UP | {"continue"}


class FaultJournal:
    """What is broken now, and how each of it is undone; private, since old passwords are part of that."""

    def __init__(self, state: Path) -> None:
        """Take the state folder; nothing is written here."""
        self._file = state / "faults.json"
        self.copies = state / "faults"

    def read(self) -> list[dict[str, Any]]:
        """Return every fault with its service and what undoes it, the oldest first."""
        if not self._file.exists():
            return []
        entries: list[dict[str, Any]] = json.loads(self._file.read_text(encoding="utf-8"))
        return entries

    def names(self) -> list[str]:
        """Return every fault with its service, as people say it."""
        return [f"{entry['fault']} of {entry['service']}" for entry in self.read()]

    def begin(self, fault: str, service: str) -> None:
        """Write down that a fault begins."""
        self._write([*self.read(), {"fault": fault, "service": service, "undo": [], "done": False}])

    def add(self, undo: Undo) -> None:
        """Write down what undoes the next act of the newest fault."""
        entries = self.read()
        entries[-1]["undo"].append(undo)
        self._write(entries)

    def finish(self) -> None:
        """Write down that the newest fault is in force."""
        entries = self.read()
        entries[-1]["done"] = True
        self._write(entries)

    def withdraw(self) -> None:
        """Forget the newest fault: nothing of it was done."""
        self._write(self.read()[:-1])

    def outlive(self, undone: frozenset[str]) -> None:
        """Forget the faults that are undone by these verbs alone; what is undone in part is not in force."""
        entries = self.read()
        left = []
        for entry in entries:
            verbs = {verb for verb, *_ in entry["undo"]}
            # What is deployed wrongly stays so when the application is started again.
            in_part = bool(verbs & (undone - {"restart"}))
            if not verbs <= undone:
                left.append({**entry, "done": entry.get("done", True) and not in_part})
        if left != entries:
            self._write(left)

    def clear(self) -> None:
        """Forget everything: it is mended."""
        self._file.unlink(missing_ok=True)
        shutil.rmtree(self.copies, ignore_errors=True)

    def _write(self, entries: list[dict[str, Any]]) -> None:
        write_private(self._file, json.dumps(entries, indent=1))
