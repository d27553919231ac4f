"""What a vendor's double knows, in one private file: it outlives the process."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deployments.sandbox.vault import write_private


class VendorState:
    """One JSON document, changed by one request at a time."""

    def __init__(self, file: Path, first: Callable[[], dict[str, Any]]) -> None:
        """Take where it lives, and what makes the document of the first day."""
        self._file = file
        self._first = first
        self._lock = threading.RLock()

    @contextmanager
    def opened(self) -> Iterator[dict[str, Any]]:
        """Yield the document; what was changed in it is written at the end, unless the block raised."""
        with self._lock:
            before = self._file.read_text(encoding="utf-8") if self._file.exists() else ""
            document = json.loads(before) if before else self._first()
            yield document
            after = json.dumps(document, indent=1)
            if after != before:
                self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                write_private(self._file, after)
