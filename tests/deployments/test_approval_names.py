"""A profile may name the runbooks that wait for a person, and no others: the names are those of the flows."""

import ast
from collections.abc import Iterator
from functools import cache

import yaml

from deployments.deploy import PROJECT
from tasks.records.approval_care import ASKING

APPROVE = ("tasks.approval", "approve")


@cache
def _read_module(module: str) -> ast.Module:
    path = PROJECT / f"{module.replace('.', '/')}.py"
    return ast.parse(path.read_text(encoding="utf-8"))


def _read_names(module: str) -> dict[str, tuple[str, str]]:
    """Return what each name of a module is: the module that it comes from, and its name there."""
    body = _read_module(module).body
    defined = {node.name: (module, node.name) for node in body if isinstance(node, ast.FunctionDef)}
    imported = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in body
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names
    }
    return imported | defined


def _find_used(module: str, function: str) -> Iterator[tuple[str, str]]:
    """Yield each function that a function names."""
    names = _read_names(module)
    for definition in _read_module(module).body:
        if isinstance(definition, ast.FunctionDef) and definition.name == function:
            for node in ast.walk(definition):
                if isinstance(node, ast.Name) and node.id in names:
                    yield names[node.id]


def _find_reached(module: str, function: str) -> set[tuple[str, str]]:
    """Return all that a flow's function calls, in whichever module of flows that stands."""
    reached: set[tuple[str, str]] = set()
    left = {(module, function)}
    while left:
        place = left.pop()
        reached.add(place)
        if place[0].startswith("flows.") and not place[0].startswith("flows.decisions"):
            left |= set(_find_used(*place)) - reached
    return reached


def test_the_runbooks_that_a_profile_may_let_wait_are_those_that_ask() -> None:
    document = yaml.safe_load((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))
    flows = {entry["entrypoint"].rpartition(".")[::2] for entry in document["deployments"]}
    asking = {function for module, function in flows if APPROVE in _find_reached(module, function)}
    assert sorted(function.replace("_", "-") for function in asking) == sorted(ASKING)
