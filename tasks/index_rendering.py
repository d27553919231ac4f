"""A service's indexes as the Markdown that the Prefect UI shows."""

from collections.abc import Iterable, Sequence

from tasks.artifact_rendering import escape, render_list, render_table
from tasks.artifacts import publish_markdown
from tasks.records.figures import say_bytes
from tasks.records.indexes import IndexFacts

IndexRow = tuple[str, str, str, str, str]
"""Collection or table, key, state, size, what was done or has to be."""


def publish_indexes(service: str, said: str, rows: Iterable[IndexRow], others: Sequence[IndexFacts]) -> None:
    """Show how it stands with each recommended index, and which others there are."""
    publish_markdown(render_indexes(service, said, rows, others), "ensure-indexes", "indexes", service)


def render_indexes(service: str, said: str, rows: Iterable[IndexRow], others: Sequence[IndexFacts]) -> str:
    """Return how it stands with each recommended index, and which others there are."""
    table = render_table(("Of", "Key", "State", ">Size", "Done, or to do"), rows)
    listed = render_list([_describe(index) for index in others])
    beside = f"\n\n## Not recommended by the profile\n\n{listed}" if listed else ""
    return f"# Indexes of {service}\n\n{escape(said, 600)}\n\n{table}{beside}"


def _describe(index: IndexFacts) -> str:
    kind = [word for word, is_so in (("unique", index.unique), ("not valid", not index.is_valid)) if is_so]
    notes = [*kind, *([index.special] if index.special else []), say_bytes(index.bytes)]
    return f"{index.source}: {index.name} ({', '.join(notes)})"
