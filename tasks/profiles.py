"""Load service profiles. A wrong one is refused with the file, the line, the field and what was expected."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tasks.errors import ConfigurationError
from tasks.records.service import ServiceProfile

SERVICES_VARIABLE = "RUNBOOK_SERVICES"
_DEFAULT_FOLDER = Path(__file__).parent.parent / "deployments" / "services"


def services_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the profiles: ``RUNBOOK_SERVICES``, or ``deployments/services``."""
    return Path(environment.get(SERVICES_VARIABLE) or _DEFAULT_FOLDER)


def list_services(folder: Path) -> tuple[str, ...]:
    """Given the folder of the profiles, return the services' names in order."""
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def read_profile(path: Path) -> ServiceProfile:
    """Given a profile's file, return the profile; raise ``ConfigurationError`` saying where it is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The profile {path} cannot be read: {error}.") from None
    try:
        # YAML's own reader takes the last of two fields of one name, and says nothing.
        for line, field in _fields_given_twice(yaml.compose(text)):
            raise ConfigurationError(
                f"The profile {path} is wrong at line {line}, {field}: it is given twice."
            )
        profile = ServiceProfile.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        raise ConfigurationError(_describe(path, text, error)) from None
    except (yaml.YAMLError, ValueError) as error:
        # A date that the calendar does not have is a bare ValueError.
        raise ConfigurationError(f"The profile {path} is no YAML: {error}.") from None
    if profile.name != path.stem:
        raise ConfigurationError(
            f"The profile {path} calls its service '{profile.name}': file and service have one name."
        )
    return profile


@task(cache_policy=NO_CACHE, persist_result=False)
def load_service(name: str) -> ServiceProfile:
    """Given a service's name, return its profile; raise ``ConfigurationError`` if unknown or malformed."""
    folder = services_folder()
    path = folder / f"{name}.yaml"
    if name not in list_services(folder):
        known = ", ".join(list_services(folder)) or "none"
        raise ConfigurationError(f"There is no service '{name}' in {folder}; known services: {known}.")
    return read_profile(path)


def _fields_given_twice(node: yaml.Node | None) -> Iterator[tuple[int, str]]:
    """Yield line and name of every field that stands in its section already."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.start_mark.line + 1, key.value
            seen.add(str(key.value))
            yield from _fields_given_twice(value)


def _describe(path: Path, text: str, error: ValidationError) -> str:
    root = yaml.compose(text)
    problems = []
    for detail in error.errors(include_url=False, include_input=False):
        field = ".".join(str(part) for part in detail["loc"]) or "the profile"
        line = _line_of(root, detail["loc"])
        problems.append(f"line {line}, {field}: {_expected(detail)}")
    return f"The profile {path} is wrong at " + "; ".join(problems) + "."


def _expected(detail: ErrorDetails) -> str:
    """Say what the field should have been."""
    if detail["type"] == "extra_forbidden":
        known = ", ".join(_fields_beside(detail["loc"]))
        return f"there is no such field; known here: {known}"
    return detail["msg"]


def _fields_beside(location: Sequence[int | str]) -> list[str]:
    section: type[BaseModel] = ServiceProfile
    for part in location[:-1]:
        section = section.model_fields[str(part)].annotation  # type: ignore[assignment]  # sections are models
    return list(section.model_fields)


def _line_of(node: yaml.Node | None, location: Sequence[int | str]) -> int:
    """Return the line of the deepest part of the location that the document has."""
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == part]
            if not found:
                break
            key, node = found[0]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line
