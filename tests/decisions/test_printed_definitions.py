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
