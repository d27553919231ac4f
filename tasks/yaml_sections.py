"""Read a section of YAML. A wrong one is refused with the file, the line, the field and what was expected."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tasks.errors import ConfigurationError
from tasks.records.section import Section

_Read = TypeVar("_Read", bound=Section)


def read_section(path: Path, model: type[_Read], called: str) -> _Read:
    """Given a file, its model and what people call it, return what it says.

    Raise ``ConfigurationError`` saying where it is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The {called} {path} cannot be read: {error}.") from None
    try:
        loader = yaml.CSafeLoader(text)
        root = loader.get_single_node()
        # YAML's own reader takes the last of two fields of one name, and says nothing.
        for line, field in _fields_given_twice(root):
            raise ConfigurationError(
                f"The {called} {path} is wrong at line {line}, {field}: it is given twice."
            )
        content = loader.construct_document(root) if root else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # A date that the calendar does not have is a bare ValueError.
        raise ConfigurationError(f"The {called} {path} is no YAML: {_say_problem(error)}.") from None
    try:
        return model.model_validate(content)
    except ValidationError as error:
        found = "; ".join(_describe(root, model, f"the {called}", error))
        raise ConfigurationError(f"The {called} {path} is wrong at {found}.") from None


def _say_problem(error: Exception) -> str:
    """Say in one line where it is and what; YAML's own words are several."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    # What was never closed is noticed at the end, and wrong where it begins.
    began = f"{error.context} from line {error.context_mark.line + 1} on: " if error.context_mark else ""
    return f"line {error.problem_mark.line + 1}, {began}{error.problem}"


def _fields_given_twice(node: yaml.Node | None) -> Iterator[tuple[int, str]]:
    """Yield line and name of every field that stands in its section already."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            # A key that is no text, as in {{ name }}, is refused afterwards.
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    yield key.start_mark.line + 1, key.value
                seen.add(str(key.value))
            yield from _fields_given_twice(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _fields_given_twice(value)


def _describe(
    root: yaml.Node | None, model: type[BaseModel], called: str, error: ValidationError
) -> Iterator[str]:
    for detail in error.errors(include_url=False, include_input=False):
        field = ".".join(str(part) for part in detail["loc"]) or called
        yield f"line {_line_of(root, detail['loc'])}, {field}: {_expected(detail, model)}"


def _expected(detail: ErrorDetails, model: type[BaseModel]) -> str:
    """Say what the field should have been."""
    if detail["type"] == "extra_forbidden":
        known = ", ".join(_fields_beside(detail["loc"], model))
        return f"there is no such field; known here: {known}"
    if detail["type"] == "model_type":
        return "it has no fields; write them below it, each as name: value"
    return detail["msg"]


def _fields_beside(location: Sequence[int | str], model: type[BaseModel]) -> list[str]:
    for part in location[:-1]:
        # A place in a list is no field: its items' model is known from the list's.
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Return the model that a field, or each item of a list, is of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in {Union, UnionType, tuple}:
        return next(filter(None, map(_model_in, get_args(annotation))), None)
    return None


def _line_of(node: yaml.Node | None, location: Sequence[int | str]) -> int:
    """Return the line of the deepest part of the location that the document has."""
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
            if not found:
                break
            # What is merged in from elsewhere stands before what overrides it here.
            key, node = found[-1]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line
