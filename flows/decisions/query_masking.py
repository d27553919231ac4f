"""Given what a query was, say its shape: everything that a literal may hide in is left out."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token

MASK: Final = "?"
UNREADABLE: Final = "a statement that was cut off, or is no SQL"
_LONGEST = 2000
_DEEPEST = 40
# What a field is called by people who write programs; what is not may be a value that became a name.
_NAME = re.compile(r"\$?[A-Za-z_][A-Za-z_-]{0,39}[0-9]{0,2}|_id")
_DIRECTIONS = {1, -1, 0}
_PATH = re.compile(r"\${1,2}[A-Za-z_][\w.-]{0,200}")
_LIST = re.compile(r"\((?:\s*\?\s*,)+\s*\?\s*\)")
_ROWS = re.compile(r"\(\?\)(?:\s*,\s*\(\?\))+")
# A parameter, which the lexer would take for the beginning of a string in dollars.
_PARAMETER = re.compile(r"(?<![\w$])\$[0-9]+")
# A remark ends the operator that it touches, which the lexer does not know: ||/* of all */
_REMARK = re.compile(r"(/\*|--)")
# Within these, a string that begins with a dollar is a value and no field's path.
_VALUES_WITHIN = {"$match", "$literal", "filter", "query", "q"}
_DIRECTED = {"$sort", "sort", "$project", "projection", "hint"}


def mask_name(name: str) -> str:
    """Given a field's path, return it with a mask for each part that may be a value: an id, an address."""
    return ".".join(part if _NAME.fullmatch(part) else MASK for part in name.split("."))


def mask_document(value: object) -> str:
    """Given a part of a MongoDB command, return it as text with field names, operators and masks only."""
    return _mask(value, "", paths=True, depth=0)[:_LONGEST]


def mask_filter(value: object) -> str:
    """Given a filter, return it likewise; in a filter, no string is a field's path."""
    return _mask(value, "", paths=False, depth=0)[:_LONGEST]


def _mask(value: object, within: str, *, paths: bool, depth: int) -> str:
    if depth > _DEEPEST:
        return MASK
    if isinstance(value, Mapping):
        return _mask_mapping(value, within, paths=paths, depth=depth)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview):
        # How many there are makes no other shape, and each may be one of several kinds.
        kinds = dict.fromkeys(_mask(one, within, paths=paths, depth=depth + 1) for one in value)
        return f"[{', '.join(kinds)}]"
    if within in _DIRECTED and type(value) in {int, bool, float} and value in _DIRECTIONS:
        return f"{value:g}" if isinstance(value, float) else str(int(value))
    if paths and isinstance(value, str) and _PATH.fullmatch(value):
        return f"${mask_name(value.lstrip('$'))}"
    return MASK


def _mask_mapping(value: Mapping[Any, Any], within: str, *, paths: bool, depth: int) -> str:
    pieces = []
    for key, inner in value.items():
        name = str(key)
        keeps = (paths and name not in _VALUES_WITHIN) or name == "$expr"
        below = name if name in _DIRECTED else within if within in _DIRECTED else ""
        pieces.append(f"{mask_name(name)}: {_mask(inner, below, paths=keeps, depth=depth + 1)}")
    return f"{{{', '.join(dict.fromkeys(pieces))}}}"


def mask_sql(text: str) -> str:
    """Given a statement, return it without literals and comments; one that cannot be read is not shown."""
    text = _REMARK.sub(r" \1", _PARAMETER.sub("0", text))
    try:
        tokens = Postgres().tokenize(text)
    except TokenError:
        return UNREADABLE
    said = "".join(_say_tokens(text, tokens))
    return _ROWS.sub("(?), …", _LIST.sub("(?)", said))[:_LONGEST]


def _say_tokens(text: str, tokens: Sequence[Token]) -> Iterable[str]:
    end, was_value = -1, False
    for token in tokens:
        is_value = _is_value(text, token)
        spaced = token.start > end + 1 and end >= 0
        glued = was_value and not spaced
        if spaced:
            yield " "
        # What is glued to a number is its end: 5_000.
        if is_value and not glued:
            yield MASK
        elif not is_value and not (glued and token.token_type.name == "VAR"):
            yield " ".join(text[token.start : token.end + 1].split())
        end, was_value = token.end, is_value


def _is_value(text: str, token: Token) -> bool:
    kind = token.token_type.name
    said = text[token.start : token.end + 1]
    # A name may hold a dollar, and hardly ever does: a value that was misread does.
    return kind == "NUMBER" or "STRING" in kind or "'" in said or "$" in said
