"""The documents say what is there: links, commands, fields, deployments. Nothing is started for it."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from tasks.records.service import ServiceProfile

PROJECT = Path(__file__).parents[2]
DOCUMENTS = (PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md")))
PROFILE_PAGE = PROJECT / "docs" / "reference" / "service-profile.md"
RUNBOOK_PAGES = PROJECT / "docs" / "runbooks"
# A page that shows how something new is made has to name what is not there.
EXAMPLES = {"add-a-service.md": {"NAME"}, "when-a-backup-fails.md": {"SERVICE"}}

_ANCHOR_DROPS = re.compile(r"[^\w\- ]")
_DEPLOYMENT = re.compile(
    r"\b(?P<flow>[a-z]+(?:-[a-z]+)+)/(?P<service><service>|[A-Za-z][A-Za-z0-9-]*)(?![\w/.])"
)
_RUN_COMMAND = re.compile(r"deployment run ['\"]?(?P<flow>[^/'\"\s`]+)/(?P<service>[^'\"\s`]+)")
_MAKE = re.compile(r"(?:^|`|\n {4})make ([a-z]+)")
_MODULE_PATH = re.compile(r"\b(?:flows|tasks|deployments|tests)/[a-z0-9_/]+\.(?:py|yaml|md|json)\b")


def _name(document: Path) -> str:
    return str(document.relative_to(PROJECT))


def _link_targets(document: Path) -> Iterator[str]:
    for block in MarkdownIt("commonmark").enable("table").parse(document.read_text(encoding="utf-8")):
        for token in block.children or ():
            target = token.attrs.get("href", token.attrs.get("src"))
            if target is not None:
                yield str(target)


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {_ANCHOR_DROPS.sub("", heading.lower()).strip().replace(" ", "-") for heading in headings}


def _broken(document: Path) -> Iterator[str]:
    for target in _link_targets(document):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (document.parent / path).resolve() if path else document
        if not place.exists() or (anchor and anchor not in _anchors(place)):
            yield target


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_link_and_picture_of_a_document_is_there(document: Path) -> None:
    assert list(_broken(document)) == []


def test_a_broken_link_picture_or_anchor_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A title!\n[a](gone.md) ![b](gone.png) [c](#a-title) [d](#b) [e](page.md) [f](https://x.y)"
    )
    assert list(_broken(page)) == ["gone.md", "gone.png", "#b"]


def test_every_page_is_linked_from_another_one() -> None:
    linked = {
        (document.parent / target.partition("#")[0]).resolve()
        for document in DOCUMENTS
        for target in _link_targets(document)
    }
    assert [_name(page) for page in DOCUMENTS[1:] if page.resolve() not in linked] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_make_target_that_a_document_names_exists(document: Path) -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert targets >= set(_MAKE.findall(document.read_text(encoding="utf-8")))


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_source_file_that_a_document_names_exists(document: Path) -> None:
    named = set(_MODULE_PATH.findall(document.read_text(encoding="utf-8")))
    assert [path for path in sorted(named) if not (PROJECT / path).exists()] == []


@cache
def _deployments() -> set[tuple[str, str]]:
    document = yaml.safe_load((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))
    return {
        (entry["entrypoint"].rpartition(".")[2].replace("_", "-"), entry["name"])
        for entry in document["deployments"]
    }


def test_every_deployment_has_a_page_and_every_page_a_deployment() -> None:
    assert {page.stem for page in RUNBOOK_PAGES.glob("*.md")} == {flow for flow, _ in _deployments()}


def _unknown_deployments(text: str, also: set[str]) -> set[str]:
    """Return the deployments that a text names and prefect.yaml does not have."""
    flows = {flow for flow, _ in _deployments()}
    services = {service for _, service in _deployments()} | {"<service>"} | also
    named = {(found["flow"], found["service"]) for found in _RUN_COMMAND.finditer(text)}
    named |= {
        (found["flow"], found["service"])
        for found in _DEPLOYMENT.finditer(text)
        if found["flow"] in flows or found["flow"].endswith(("-backup", "-drill"))
    }
    return {f"{flow}/{service}" for flow, service in named if flow not in flows or service not in services}


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_a_document_names_only_deployments_that_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert _unknown_deployments(text, EXAMPLES.get(document.name, set())) == set()


def test_a_deployment_that_does_not_exist_would_be_found() -> None:
    text = (
        "`nightly-backup/invoice` `nightly-backup/nobody` `weekly-backup/invoice` deployment run x/y -p a=b"
    )
    assert _unknown_deployments(text, set()) == {"nightly-backup/nobody", "weekly-backup/invoice", "x/y"}


@pytest.mark.parametrize("page", sorted(RUNBOOK_PAGES.glob("*.md")), ids=lambda page: str(page.stem))
def test_a_runbooks_page_has_every_parameter_of_its_flow(page: Path) -> None:
    document = yaml.safe_load((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))
    (entrypoint,) = {
        entry["entrypoint"]
        for entry in document["deployments"]
        if entry["entrypoint"].endswith(f".{page.stem.replace('-', '_')}")
    }
    module, _, function = entrypoint.rpartition(".")
    source = (PROJECT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    # Read, not imported: Prefect takes seconds.
    (signature,) = re.findall(rf"^def {function}\((.*?)\) ->", source, re.MULTILINE | re.DOTALL)
    parameters = set(re.findall(r"(\w+):", re.sub(r"#.*", "", signature)))
    documented = set(re.findall(r"^\| `(\w+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert documented >= parameters
    assert {name for name in documented if name in source} == parameters


def _say_type(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_say_type(choice) for choice in schema["anyOf"] if choice.get("type") != "null")
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema["type"] == "array":
        return f"list of {_say_type(schema['items'])}s"
    if schema.get("format") in {"path", "duration", "time"}:
        return str(schema["format"])
    if "env|file|block" in schema.get("pattern", ""):
        return "reference"
    names = {"string": "text", "integer": "whole number", "object": "mapping"}
    name = names.get(schema["type"], str(schema["type"]))
    bounds = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to"}
    return " ".join(
        [name, *(f"{word} {schema[bound]:g}" for bound, word in bounds.items() if bound in schema)]
    )


def _say_value(value: object) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, (list, dict, bool)):
        dumped = yaml.safe_dump(value, default_flow_style=True, sort_keys=False)
        return f"`{dumped.removesuffix('...' + chr(10)).strip()}`"
    return f"`{value}`"


def profile_rows(schema: Mapping[str, Any], of: str = "ServiceProfile", prefix: str = "") -> Iterator[str]:
    """Yield the line that the reference has for every field of the profile."""
    record = schema if of == "ServiceProfile" else schema["$defs"][of]
    for name, field in record["properties"].items():
        sections = [choice["$ref"] for choice in (field, *field.get("anyOf", ())) if "$ref" in choice]
        if sections:
            yield from profile_rows(schema, sections[0].rpartition("/")[2], f"{prefix}{name}.")
            continue
        if listed := field.get("items", {}).get("$ref"):
            yield from profile_rows(schema, listed.rpartition("/")[2], f"{prefix}{name}[].")
            continue
        default = "required" if name in record.get("required", ()) else _say_value(field.get("default"))
        example = _say_value(field["examples"][0])
        yield f"| `{prefix}{name}` | {_say_type(field)} | {default} | {field['description']} | {example} |"


ROWS = list(profile_rows(ServiceProfile.model_json_schema()))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("`")[1])
def test_the_reference_has_every_field_of_a_profile_as_the_model_has_it(row: str) -> None:
    assert row in PROFILE_PAGE.read_text(encoding="utf-8").splitlines(), f"put this line there: {row}"


def test_the_reference_has_no_field_that_a_profile_has_not() -> None:
    lines = PROFILE_PAGE.read_text(encoding="utf-8").splitlines()
    documented = [line for line in lines if re.match(r"\| `[a-z0-9_.\[\]]+` \|", line)]
    # A page may tell of a section after the fields beside it.
    assert sorted(documented) == sorted(row for row in ROWS if row in lines)
