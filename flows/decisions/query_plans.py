"""Given a plan of PostgreSQL's EXPLAIN as JSON, say it without literals, and what would spare its scans."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError

from flows.decisions.query_masking import mask_sql
from tasks.records.slow_queries import Need, Plan

# A smaller table is read whole at no cost.
LARGE_BYTES: Final = 8 << 20
_SHOWN = ("Index Cond", "Recheck Cond", "Filter", "Hash Cond", "Merge Cond", "Join Filter")
_RANGES = (exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between)
_MOST_LINES = 40
_DESCENDING = " DESC"


def read_plan(explained: Mapping[str, Any], table_bytes: Mapping[str, int]) -> Plan:
    """Given the plan and the sizes of tables, return its nodes in order and the scans of large tables."""
    root = explained["Plan"]
    return Plan(
        lines=tuple(_say_nodes(root, 0))[:_MOST_LINES], scans=tuple(_find_scans(root, (), table_bytes))
    )


def _say_nodes(node: Mapping[str, Any], depth: int) -> Iterator[str]:
    on = f" on {_name_table(node)}" if "Relation Name" in node else ""
    using = f" using {node['Index Name']}" if "Index Name" in node else ""
    rows = f"{node.get('Plan Rows', 0):,}"
    conditions = [f"{name}: {mask_sql(node[name])}" for name in _SHOWN if name in node]
    if "Sort Key" in node:
        conditions.append(f"by {', '.join(mask_sql(key) for key in node['Sort Key'])}")
    said = f"{'  ' * depth}{node['Node Type']}{using}{on} (about {rows} rows) {'; '.join(conditions)}"
    yield said.rstrip()
    for child in node.get("Plans", ()):
        yield from _say_nodes(child, depth + 1)


def _find_scans(
    node: Mapping[str, Any], sort: Sequence[str], table_bytes: Mapping[str, int]
) -> Iterator[tuple[str, Need]]:
    sort = node.get("Sort Key", sort)
    if node["Node Type"] == "Seq Scan" and table_bytes.get(_name_table(node), 0) >= LARGE_BYTES:
        need = _read_need(str(node.get("Filter", "")), sort, str(node.get("Alias", "")))
        if need.equal or need.range or need.sort:
            yield _name_table(node), need
    # Several tables have no order in common.
    children = node.get("Plans", ())
    for child in children:
        yield from _find_scans(child, sort if len(children) == 1 else (), table_bytes)


def _name_table(node: Mapping[str, Any]) -> str:
    schema, name = node.get("Schema", "public"), str(node["Relation Name"])
    return name if schema == "public" else f"{schema}.{name}"


def _read_need(condition: str, sort: Sequence[str], alias: str) -> Need:
    equal: dict[str, None] = {}
    ranges: dict[str, None] = {}
    for one in _split(condition):
        column = _find_column(one)
        if column is None:
            continue
        if isinstance(one, exp.EQ | exp.In):
            equal[column] = None
        elif isinstance(one, _RANGES):
            ranges[column] = None
    order = [_read_sort(key, alias) for key in sort]
    known = tuple(pair for pair in order if pair is not None)
    return Need(
        equal=tuple(equal),
        sort=known if len(known) == len(order) else (),
        range=tuple(set(ranges) - set(equal)),
    )


def _split(condition: str) -> list[exp.Expr]:
    """Return the conditions that all must hold; what cannot be read is none."""
    if not condition:
        return []
    try:
        parsed = parse_one(condition, dialect="postgres").unnest()
    except SqlglotError:
        return []
    return [one.unnest() for one in parsed.flatten()] if isinstance(parsed, exp.And) else [parsed]


def _find_column(condition: exp.Expr) -> str | None:
    """Return the column that is compared with something, casts aside; None if it is within an expression."""
    compared = condition.this
    while isinstance(compared, exp.Cast | exp.Paren):
        compared = compared.this
    return compared.name if isinstance(compared, exp.Column) else None


def _read_sort(key: str, alias: str) -> tuple[str, str] | None:
    column = key.removesuffix(_DESCENDING).removeprefix(f"{alias}.").strip('"')
    plain = column.replace("_", "").isalnum()
    return (column, "-1" if key.endswith(_DESCENDING) else "1") if plain else None
