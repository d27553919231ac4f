r"""Finding each table's rows in the SQL of pg_dump and pg_restore, however it is cut into chunks."""

import hashlib
import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.postgresql_copy_sections import CopySections
from tasks.records.backup import TableFacts

HEAD = b"--\n-- PostgreSQL database dump\n--\n\n\\restrict x1\n\nSET statement_timeout = 0;\n\n"
# What COPY writes of a value: a backslash is doubled, a newline is \n; so no row is a backslash and a dot.
VALUES = st.sampled_from(
    [b"\\N", b"", b"\\\\.", b"\\\\.\\n\\\\.", b"COPY public.x (y) FROM stdin;", b"SELECT 1;"]
)
ROWS = st.lists(
    st.lists(
        VALUES | st.text(alphabet="ab. \\名").map(lambda t: t.replace("\\", "\\\\").encode()), max_size=3
    )
    .map(b"\t".join)
    .map(lambda row: row + b"\n"),
    max_size=5,
)
NAMES = st.sampled_from(
    [
        "public.users",
        'public."AuditTrail"',
        'public."with space"',
        'public."a (b) FROM stdin;"',
        'public."quote "" and dot."',
        '"Odd Schema"."order"',
        "public.名前",
    ]
)
COLUMNS = st.sampled_from(["id", "id, name", '"a (b)", "FROM stdin;"', ""])
TABLES = st.lists(st.tuples(NAMES, COLUMNS, ROWS), max_size=4)


def written(tables: list[tuple[str, str, list[bytes]]]) -> bytes:
    """Write the tables as pg_dump does: two spaces stand where there are no columns."""
    text = HEAD
    for name, columns, rows in tables:
        listed = f"({columns})" if columns else ""
        text += (
            f"--\n-- Data for Name: x; Type: TABLE DATA\n--\n\nCOPY {name} {listed} FROM stdin;\n".encode()
        )
        text += b"".join(rows) + b"\\.\n\n\n"
    return text + b"SELECT pg_catalog.setval('public.users_id_seq', 304, true);\n\n\n--\n-- complete\n--\n\n"


def read(text: bytes, borders: list[int]) -> CopySections:
    sections = CopySections()
    places = sorted({0, len(text), *(border % (len(text) + 1) for border in borders)})
    for start, end in itertools.pairwise(places):
        sections.feed(text[start:end])
    return sections


def facts(name: str, columns: str, rows: list[bytes]) -> TableFacts:
    digest = hashlib.sha256(b"".join(rows)).hexdigest()
    return TableFacts(table=name, columns=columns, rows=len(rows), content_hash=digest)


@given(tables=TABLES, borders=st.lists(st.integers(0, 10**6), max_size=20))
@example(tables=[("public.users", "id", [])], borders=[])
@example(tables=[("public.empty", "", [b"\n", b"\n"])], borders=[])
def test_every_table_is_found_with_its_rows_whatever_the_chunks(
    tables: list[tuple[str, str, list[bytes]]], borders: list[int]
) -> None:
    sections = read(written(tables), borders)
    assert sections.tables == [facts(*table) for table in tables]
    assert sections.sequence_values == ["SELECT pg_catalog.setval('public.users_id_seq', 304, true);"]
    assert sections.close()


def test_one_byte_at_a_time_is_as_good_as_all_at_once() -> None:
    tables = [
        ("public.a", "x, y", [b"\\\\.\t1\n", b"\n", b"\\N\t\n"]),
        ("public.b", "x", []),
        ("public.c", "", [b"\n"]),
    ]
    text = written(tables)
    assert (
        read(text, list(range(len(text)))).tables
        == read(text, []).tables
        == [facts(*table) for table in tables]
    )


@given(tables=TABLES.filter(bool), place=st.integers(0, 10**6))
def test_input_that_ends_in_a_table_or_a_line_is_not_whole(
    tables: list[tuple[str, str, list[bytes]]], place: int
) -> None:
    text = written(tables)
    end = place % len(text)
    sections = read(text[:end], [])
    after_last_statement = text[:end].rpartition(b"\n")[2].strip() == b""
    within_table = len(sections.tables) < text[:end].count(b"\n\\.\n") or sections._table is not None
    assert sections.close() is (after_last_statement and not within_table)


@pytest.mark.parametrize("changed", [b"1\ttwo\n", b"1\tone\n\n", b"1\tone", b"1\tonf\n"])
def test_any_other_byte_is_another_hash(changed: bytes) -> None:
    one = read(written([("public.a", "x", [b"1\tone\n"])]), []).tables
    other = read(
        written([("public.a", "x", [changed if changed.endswith(b"\n") else changed + b" \n"])]), []
    ).tables
    assert one[0].content_hash != other[0].content_hash


def test_the_order_of_the_rows_counts() -> None:
    rows = [b"1\n", b"2\n"]
    there, back = (read(written([("public.a", "x", order)]), []).tables for order in (rows, rows[::-1]))
    assert there[0].content_hash != back[0].content_hash
