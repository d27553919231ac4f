"""What a PostgreSQL server prints in two ways is one definition; whatever else differs stays two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.printed_definitions import is_left_out_of_dumps, normalize_definition

# Every character that could be taken for the end of a text or of a list, and a few that could not.
TEXTS = st.text("'\",[]():$ax\\\n", max_size=8)
NAMES = st.sampled_from(
    ['"char"', "character varying", "character varying(5)", "text", "public.kind", '"A, ]"."b"']
)
MEMBERS = st.one_of(
    st.builds(lambda text, kind: f"{quote(text)}::{kind}", TEXTS, NAMES),
    st.builds(lambda kind: f"NULL::{kind}", NAMES),
    st.sampled_from(["a", "new.status", 'b."odd ""]"']),
)
LISTS = st.tuples(st.lists(MEMBERS, min_size=1, max_size=4), NAMES)
INDEX = "CREATE UNIQUE INDEX i ON {}public.t USING btree (id)"


def quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def print_once(members: list[str], kind: str) -> str:
    return f"public.t c CHECK (((a)::text = ANY ((ARRAY[{', '.join(members)}])::{kind}[])))"


def print_restored(members: list[str], kind: str) -> str:
    return f"public.t c CHECK (((a)::text = ANY (ARRAY[{', '.join(f'({one})::{kind}' for one in members)}])))"


@given(LISTS)
def test_both_ways_to_print_a_list_are_one_definition(cast: tuple[list[str], str]) -> None:
    assert print_once(*cast) != print_restored(*cast)
    assert normalize_definition(print_once(*cast)) == normalize_definition(print_restored(*cast))


@given(LISTS, LISTS)
def test_two_different_lists_are_never_one_definition(
    one: tuple[list[str], str], other: tuple[list[str], str]
) -> None:
    same = one == other
    for print_other in (print_once, print_restored):
        assert (normalize_definition(print_once(*one)) == normalize_definition(print_other(*other))) is same


@given(LISTS, TEXTS)
def test_several_lists_of_a_definition_are_each_written_anew(cast: tuple[list[str], str], text: str) -> None:
    between = f" OR b = {quote(text)}::text OR "
    once, restored = print_once(*cast), print_restored(*cast)
    assert normalize_definition(once + between + once) == normalize_definition(restored + between + restored)


@pytest.mark.parametrize(
    "quoted",
    ["'{}'", '"{}"', "CREATE FUNCTION f() AS $function${}$function$\n", "AS $a$ it's $b$ {} $a$"],
)
def test_what_is_quoted_is_left_as_it_is(quoted: str) -> None:
    text = quoted.format("((ARRAY[x, y])::text[])")
    assert normalize_definition(text) == text


@pytest.mark.parametrize(
    "unlike",
    [
        "(ARRAY[1, 2])::bigint[]",
        "(ARRAY[ARRAY['a'::character varying]])::text[]",
        "(ARRAY['a'::character varying])::text",
        "ARRAY['a'::character varying]",
        "ARRAY[]::text[]",
    ],
)
def test_nothing_else_is_rewritten(unlike: str) -> None:
    assert normalize_definition(unlike) == unlike


@pytest.mark.parametrize(
    ("definition", "left_out"),
    [
        (INDEX.format("") + " INVALID", True),
        (INDEX.format("") + " WHERE (a = 'x\ny'::text) INVALID", True),
        (INDEX.format("").replace(" i ", ' "i ON ONLY x" ') + " INVALID", True),
        (INDEX.format(""), False),
        (INDEX.format("") + ' WHERE ("is INVALID")', False),
        (INDEX.format("ONLY ") + " INVALID", False),
    ],
)
def test_only_an_invalid_index_of_an_ordinary_table_is_left_out(definition: str, left_out: bool) -> None:
    assert is_left_out_of_dumps(definition) is left_out


def print_moment(moment: str, kind: str = "timestamp with time zone") -> str:
    return f"CREATE INDEX young ON public.t USING btree (id) WHERE (made > '{moment}'::{kind})"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2024-01-01 00:00:00+01", "2023-12-31 18:00:00-05"),
        ("2024-07-01 05:30:00.25+05:30", "2024-07-01 00:00:00.25+00"),
        ("1890-01-01 00:53:28+00:53:28", "1890-01-01 00:00:00+00"),
    ],
)
def test_a_moment_is_one_definition_in_whatever_time_zone_it_is_printed(one: str, other: str) -> None:
    for kind in ("timestamp with time zone", "timestamp(3) with time zone"):
        assert normalize_definition(print_moment(one, kind)) == normalize_definition(
            print_moment(other, kind)
        )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2024-01-01 00:00:00+01", "2024-01-01 00:00:00+00"),
        ("10000-01-01 00:00:00+01", "10000-01-01 00:00:00+00"),
        ("9999-12-31 23:30:00-01", "9999-12-31 23:30:00+00"),
        ("infinity", "-infinity"),
    ],
)
def test_two_moments_are_never_one_definition(one: str, other: str) -> None:
    assert normalize_definition(print_moment(one)) != normalize_definition(print_moment(other))


def test_what_only_looks_like_a_moment_is_left_as_it_is() -> None:
    text = f"SELECT {quote(print_moment('2024-01-01 00:00:00+01'))}::text, '2024-01-01 00:00:00+01'::text"
    assert normalize_definition(text) == text
