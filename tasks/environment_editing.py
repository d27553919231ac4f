"""Change one assignment in an env file's text and nothing else, so that Node's dotenv reads it back."""

import re
from collections.abc import Iterator, Mapping

from tasks.environment_file import find_assignments, list_assignments, trim
from tasks.errors import RefusedError

_QUOTES = ("", "'", "`", '"')


def edit(text: str, changes: Mapping[str, str | None], after: str | None = None) -> str:
    """Given an env file's text, return it with these variables changed and every other character as it is.

    None removes all of a variable's lines. Of several assignments of one name the last counts, and is
    replaced: those before it stay. One that is new goes behind the variable ``after``, else to the end.
    Raise ``RefusedError`` if no quoting lets dotenv read a value back, or a line is no line of its own.
    """
    for name, value in changes.items():
        text = _change(text, name, value, after)
    return text


def _change(text: str, name: str, value: str | None, after: str | None) -> str:
    for candidate in _propose(_Text(text), name, value, after):
        if _is_wanted(text, candidate, name, value):
            return candidate
    what = "its line cannot be taken out" if value is None else "no quoting makes Node's dotenv read it back"
    raise RefusedError(f"{name} cannot be written into the env file, {what}: change it by hand.")


def _is_wanted(before: str, candidate: str, name: str, value: str | None) -> bool:
    """Tell whether a text differs in exactly this variable for the application."""
    if value is not None and "\0" in value:
        # No process can have that in its environment.
        return False
    old, new = list_assignments(before), list_assignments(candidate)
    earlier = [found for found in old if found[0] == name][:-1]
    own = [] if value is None else [*earlier, (name, value)]
    return [one for one in new if one[0] == name] == own and [one for one in new if one[0] != name] == [
        one for one in old if one[0] != name
    ]


class _Text:
    """A text, and where its assignments are in it whatever its lines end with."""

    def __init__(self, raw: str) -> None:
        self.raw = raw
        self._places = [at for at, sign in enumerate(raw) if sign != "\n" or raw[at - 1 : at] != "\r"]
        self.lines = "".join("\n" if raw[at] == "\r" else raw[at] for at in self._places)
        self._places.append(len(raw))
        self.newline = found[0] if (found := re.search(r"\r\n?|\n", raw)) else "\n"

    def find(self, name: str | None) -> list[re.Match[str]]:
        return [found for found in find_assignments(self.lines) if found["name"] == name]

    def replace(self, begin: int, end: int, written: str) -> str:
        """Return the raw text with something else between two places of the lines."""
        return self.raw[: self._places[begin]] + written + self.raw[self._places[end] :]

    def begin_of_line(self, found: re.Match[str]) -> int:
        return self.lines.rfind("\n", 0, found.start("name")) + 1

    def end_of_line(self, found: re.Match[str]) -> int:
        """Return where the line after an assignment begins."""
        end = self.lines.find("\n", found.end("value") if found["value"] else found.end("name"))
        return end + 1 if end >= 0 else len(self.lines)


def _propose(text: _Text, name: str, value: str | None, after: str | None) -> Iterator[str]:
    """Yield texts in which the variable may be as it is wanted, that with the smallest change first."""
    found = text.find(name)
    if value is None:
        yield _without(text, name)
    elif found:
        last, old = found[-1], found[-1]["value"] or ""
        begin = last.start("value") + old.index(trim(old)) if old else last.end("sign")
        for written in _spell(value, _quote_of(trim(old))):
            yield text.replace(begin, begin + len(trim(old)), written)
    else:
        places = [text.end_of_line(neighbour) for neighbour in text.find(after)[-1:]]
        for place in (*places, len(text.lines)):
            for written in _spell(value, ""):
                yield _insert(text, place, f"{name}={written}")


def _without(text: _Text, name: str) -> str:
    # From the last to the first: the places of those before stay as they are.
    for found in reversed(text.find(name)):
        text = _Text(text.replace(text.begin_of_line(found), text.end_of_line(found), ""))
    return text.raw


def _insert(text: _Text, place: int, line: str) -> str:
    if text.lines[:place].endswith("\n") or not place:
        return text.replace(place, place, line + text.newline)
    return text.replace(place, place, text.newline + line)


def _quote_of(written: str) -> str:
    quote = written[:1]
    return quote if quote in _QUOTES and len(written) > 1 and written.endswith(quote) else ""


def _spell(value: str, preferred: str) -> Iterator[str]:
    for quote in sorted(_QUOTES, key=lambda quote: quote != preferred):
        inside = value.replace("\n", "\\n").replace("\r", "\\r") if quote == '"' else value
        yield f"{quote}{inside}{quote}"
