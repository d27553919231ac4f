"""The house's own rules that no linter knows."""

import ast
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

PROJECT = Path(__file__).parents[2]
OURS = ("flows", "tasks", "deployments", "benchmarks")


def modules() -> list[Path]:
    return [
        path
        for folder in OURS
        for path in (PROJECT / folder).rglob("*.py")
        if "node_modules" not in path.parts
    ]


def test_no_module_is_called_like_the_standard_library_or_a_dependency() -> None:
    taken = set(sys.stdlib_module_names) | set(packages_distributions())
    ours = {path.stem for path in modules()} - {"__init__", "__main__"}
    assert not (ours & taken) - set(OURS)


def is_docstring_at_most(source: str) -> bool:
    body = ast.parse(source).body
    return not body or (len(body) == 1 and ast.get_docstring(ast.parse(source)) is not None)


def test_packages_export_nothing_from_their_init() -> None:
    inits = [path for path in modules() if path.name == "__init__.py"]
    assert [path for path in inits if not is_docstring_at_most(path.read_text(encoding="utf-8"))] == []


def test_there_is_no_drawer_for_everything() -> None:
    assert [path for path in modules() if path.stem in {"utils", "util", "helpers", "common", "misc"}] == []


def test_no_test_folder_hides_a_package_of_ours() -> None:
    assert list((PROJECT / "tests").rglob("__init__.py")) == []


def test_no_record_has_a_field_called_keys() -> None:
    """Prefect turns a task's arguments into dicts, and ``dict(record)`` calls a ``keys`` that is there."""
    found = [
        f"{path.stem}.{record.name}"
        for path in modules()
        for record in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(record, ast.ClassDef)
        for field in record.body
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and field.target.id == "keys"
    ]
    assert found == []
