"""Given what MongoDB's profiler or its list of operations says of an operation, return it as a slow query.

https://www.mongodb.com/docs/manual/reference/database-profiler/
"""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, Final

from flows.decisions.helpful_index import read_needs
from flows.decisions.query_masking import mask_document, mask_filter, mask_name
from tasks.records.slow_queries import SlowQuery

Document = Mapping[str, Any]

# Our own connections say so.
OURS: Final = "runbooks"
_COMMANDS = ("find", "aggregate", "count", "distinct", "findAndModify", "findandmodify", "mapReduce")
_HASH_DIGITS = 16
# The server cut it: what is left is one long string.
_CUT = "$truncated"
_TOO_LONG = "a command too long to be recorded"


def read_profile_document(document: Document) -> SlowQuery | None:
    """Given a document of ``system.profile``, return the query without its literals; None if it is ours."""
    return _read(document, float(document.get("millis", 0)))


def read_running_operation(document: Document) -> SlowQuery | None:
    """Given a document of ``$currentOp``, return likewise; it has run for so long when it was seen."""
    return _read(document, float(document.get("microsecs_running", 0)) / 1000)


def _read(document: Document, milliseconds: float) -> SlowQuery | None:
    source = str(document.get("ns", "")).partition(".")[2]
    if document.get("appName") == OURS or not source or source.startswith("system."):
        return None
    command = _find_command(document)
    kind = _name_kind(document, command)
    query, sort = _find_filter(command), _find_sort(command)
    text = _describe(kind, command, query, sort)
    return SlowQuery(
        identity=_identify(document, source, kind, text),
        source=source,
        kind=kind,
        text=text,
        milliseconds=milliseconds,
        examined=_count(document, "docsExamined"),
        keys_examined=_count(document, "keysExamined"),
        returned=_count(document, "nreturned", "nModified", "nMatched", "ndeleted"),
        plan=_say_plan(document),
        needs=read_needs(query, sort),
    )


def _find_command(document: Document) -> Document:
    """Return the command; of one that fetches more, the one that began it."""
    for name in ("originatingCommand", "command", "query"):
        found = document.get(name)
        if isinstance(found, Mapping) and found and not (name == "command" and "getMore" in found):
            return found
    return {}


def _name_kind(document: Document, command: Document) -> str:
    named = next((name for name in _COMMANDS if name in command), "")
    kind = named or str(document.get("op", "command"))
    return kind if kind.isalpha() else "command"


def _find_filter(command: Document) -> Document:
    changes = [*_mappings(command.get("updates")), *_mappings(command.get("deletes"))]
    for holder in [command, *changes]:
        for name in ("filter", "query", "q"):
            if isinstance(found := holder.get(name), Mapping):
                return found
    stages = takewhile(lambda stage: "$match" in stage, _mappings(command.get("pipeline")))
    merged = [stage["$match"] for stage in stages if isinstance(stage["$match"], Mapping)]
    return merged[0] if len(merged) == 1 else {"$and": merged} if merged else {}


def _find_sort(command: Document) -> Document:
    if isinstance(found := command.get("sort"), Mapping):
        return found
    for stage in _mappings(command.get("pipeline")):
        if isinstance(found := stage.get("$sort"), Mapping):
            return found
        if "$match" not in stage:
            return {}
    return {}


def _mappings(value: object) -> Sequence[Document]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list | tuple) else []


def _describe(kind: str, command: Document, query: Document, sort: Document) -> str:
    if _CUT in command:
        return _TOO_LONG
    if _mappings(command.get("pipeline")):
        return f"{kind} {mask_document(command['pipeline'])}"
    pieces = [kind, mask_filter(query) if query else "{}"]
    if sort:
        pieces.append(f"sort {mask_document({'sort': sort}).removeprefix('{sort: ').removesuffix('}')}")
    for name in ("projection", "fields", "u", "update", "key"):
        if isinstance(found := command.get(name), Mapping | list):
            # Only the stages of a pipeline name fields by a dollar: in an update that is none, it is a value.
            is_update = name in {"u", "update"} and isinstance(found, Mapping)
            pieces.append(f"{name} {mask_filter(found) if is_update else mask_document(found)}")
        elif name == "key" and isinstance(found, str):
            pieces.append(f"of {mask_name(found)}")
    pieces += [name for name in ("limit", "skip", "collation", "hint") if command.get(name)]
    return " ".join(pieces)


def _identify(document: Document, source: str, kind: str, text: str) -> str:
    """Return the server's own name for the shape: of the whole, or of its filter, sort and projection."""
    if isinstance(whole := document.get("queryShapeHash"), str):
        return whole[:_HASH_DIGITS]
    if kind != "aggregate" and isinstance(found := document.get("queryHash"), str):
        return f"{kind} {found[:_HASH_DIGITS]}"
    return hashlib.sha256(f"{source} {kind} {text}".encode()).hexdigest()[:_HASH_DIGITS]


def _count(document: Document, *names: str) -> int | None:
    found = next((document[name] for name in names if isinstance(document.get(name), int | float)), None)
    return None if found is None else int(found)


def _say_plan(document: Document) -> str:
    """Return the stages of the plan; its keys are fields of an index, and may be values that became names."""
    summary = document.get("planSummary")
    if not isinstance(summary, str):
        return ""
    stages = [piece.split("{", 1) for piece in summary.split("}")]
    said = []
    for stage in stages:
        name = stage[0].strip(" ,")
        if not name:
            continue
        fields = [pair.split(":")[0].strip() for pair in stage[1].split(",")] if stage[1:] else []
        said.append(f"{name} ({', '.join(map(mask_name, fields))})" if fields else name)
    sorted_in_memory = ", sorted in memory" if document.get("hasSortStage") else ""
    return f"{', '.join(said)}{sorted_in_memory}"[:200]
