"""Find something in a JSON by its path, as mapping files write it: ``$.monitor.tags.0.name``."""

import json
from collections.abc import Iterable

from pydantic import JsonValue


def find(document: JsonValue, path: str) -> JsonValue:
    """Given a JSON and a path, return what stands there, or None."""
    found = document
    for part in path.split(".")[1:]:
        if isinstance(found, dict):
            found = found.get(part)
        elif isinstance(found, list) and part.isascii() and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        else:
            return None
    return found


def find_text(document: JsonValue, paths: Iterable[str]) -> str:
    """Given a JSON and paths, return what stands at the first that is there as text, or nothing."""
    for path in paths:
        found = find(document, path)
        if isinstance(found, str):
            return found
        if isinstance(found, int | float):
            return json.dumps(found)
    return ""
