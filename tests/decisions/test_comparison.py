"""Every difference between a set and what was restored is named; no difference is made up."""

from typing import Any

import pytest

from flows.decisions.comparison import (
    compare_asleep,
    compare_collections,
    compare_postgresql,
    compare_restored,
)
from tasks.records.backup import CollectionFacts, Manifest, MongodbContent, PostgresqlFacts, TableFacts

A, B = "a" * 64, "b" * 64
EMAIL = '{"v":{"$numberInt":"2"},"key":{"email":{"$numberInt":"1"}},"name":"email_1","unique":true}'


def make_collection(**changed: Any) -> CollectionFacts:
    facts: dict[str, Any] = {
        "database": "invoice",
        "collection": "users",
        "kind": "collection",
        "documents": 7,
        "content_hash": A,
        "options": '{"validator":{"a":1,"b":2}}',
        "indexes": (EMAIL,),
    }
    return CollectionFacts(**(facts | changed))


def make_postgresql(*tables: TableFacts, **definitions: tuple[str, ...]) -> PostgresqlFacts:
    return PostgresqlFacts(tables=tables, definitions=definitions)


def make_table(**changed: Any) -> TableFacts:
    facts = {"table": "public.users", "columns": "(id, email)", "rows": 7, "content_hash": A}
    return TableFacts(**(facts | changed))


@pytest.mark.parametrize(
    "same",
    [
        {},
        {"database": "drill_invoice_20261121t010000_4f2a4f2a"},
        {"indexes": (EMAIL.replace('{"v"', '{"ns":"other.users","v"'),)},
        {"indexes": (EMAIL.replace('"v":{"$numberInt":"2"},', ""),)},
        {"indexes": (EMAIL.replace('"unique"', '"safe":null,"w":{"$numberInt":"1"},"j":true,"unique"'),)},
        {"indexes": (EMAIL.replace('"unique"', '"dropDups":true,"wtimeout":9,"unique"'),)},
        {"indexes": (EMAIL.replace('{"$numberInt":"1"}', '{"$numberDouble":"1.0"}'),)},
        {"indexes": (EMAIL.replace('{"$numberInt":"1"}', '{"$numberLong":"1"}'),)},
        {"indexes": ('{"unique":true,"name":"email_1","key":{"email":1},"v":2}',)},
    ],
)
def test_what_a_restore_may_change_is_no_difference(same: dict[str, Any]) -> None:
    assert compare_collections([make_collection()], [make_collection(**same)]) == ()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"documents": 6}, "Collection users: 6 documents instead of 7."),
        ({"kind": "view"}, "is a view instead of a collection"),
        ({"content_hash": B}, "their content differs (hash bbbbbbbbbbbb… instead of aaaaaaaaaaaa…)"),
        ({"options": ""}, 'option validator is missing ({"a": 1, "b": 2})'),
        ({"options": '{"validator":{"b":2,"a":1}}'}, "option validator differs"),
        ({"options": '{"validator":{"a":1,"b":2},"capped":true}'}, "option capped is there, but not in"),
        ({"indexes": ()}, "index email_1 is missing"),
        ({"indexes": (EMAIL, EMAIL.replace("email_1", "extra"))}, "index extra is there, but not in the set"),
        ({"indexes": (EMAIL.replace("true", "false"),)}, "index email_1 differs"),
        ({"indexes": (EMAIL.replace('{"$numberInt":"1"}', '{"$numberInt":"-1"}'),)}, "index email_1 differs"),
        ({"indexes": (EMAIL.replace('"2"', '"1"'),)}, "index email_1 differs"),
    ],
)
def test_a_collections_difference_is_named(changed: dict[str, Any], sentence: str) -> None:
    found = compare_collections([make_collection()], [make_collection(**changed)])
    assert len(found) == 1
    assert sentence in found[0]
    assert found[0].startswith("Collection users: ")


def test_the_order_of_a_compound_indexs_keys_is_a_difference() -> None:
    one = make_collection(indexes=('{"key":{"a":1,"b":1},"name":"x"}',))
    other = make_collection(indexes=('{"key":{"b":1,"a":1},"name":"x"}',))
    assert len(compare_collections([one], [other])) == 1


def test_while_nothing_expires_only_what_makes_documents_expire_may_be_missing() -> None:
    expiring = EMAIL.replace('"email_1"', '"ttl","expireAfterSeconds":{"$numberInt":"0"}')
    clustered = '{"key":{"_id":1},"name":"_id_","clustered":true%s}'
    saved = make_collection(
        options='{"validator":{"a":1,"b":2},"expireAfterSeconds":{"$numberLong":"60"}}',
        indexes=(EMAIL, expiring, clustered % ',"expireAfterSeconds":60'),
    )
    # Nothing else of a manifest is compared.
    only: dict[str, Any] = {"collections": (saved,)}
    only = {"mongodb": MongodbContent.model_construct(**only)}
    manifest = Manifest.model_construct(**only)
    asleep = make_collection(indexes=(EMAIL, clustered % ""))
    assert compare_asleep(manifest, (asleep,)) == ()
    assert compare_asleep(manifest, (saved,)) == ()
    assert len(compare_restored(manifest, (asleep,))) == 3
    spoilt = make_collection(documents=6, options="", indexes=(clustered % "",))
    assert len(compare_asleep(manifest, (spoilt,))) == 3


def test_missing_and_additional_collections_are_named_and_their_order_means_nothing() -> None:
    orders, users = make_collection(collection="orders"), make_collection()
    assert compare_collections([orders, users], [users, orders]) == ()
    assert compare_collections([orders], [users]) == (
        "Collection orders is missing.",
        "Collection users is there, but not in the set.",
    )


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"rows": 8}, "Table public.users: 8 rows instead of 7."),
        ({"columns": "(id)"}, "Table public.users: columns are (id) instead of (id, email)."),
        ({"content_hash": B}, "Table public.users: as many rows as there should be, but their content"),
    ],
)
def test_a_tables_difference_is_named(changed: dict[str, Any], sentence: str) -> None:
    found = compare_postgresql(make_postgresql(make_table()), make_postgresql(make_table(**changed)))
    assert len(found) == 1
    assert sentence in found[0]


def test_missing_and_additional_tables_are_named() -> None:
    expected = make_postgresql(make_table(), make_table(table="public.gone"))
    found = make_postgresql(make_table(table="public.come"), make_table())
    assert compare_postgresql(expected, found) == (
        "Table public.gone is missing.",
        "Table public.come is there, but not in the set.",
    )


INDEX = "CREATE UNIQUE INDEX users_email ON public.users USING btree (email)"
CHECK = "public.users positive CHECK ((rent > 0))"
LONG = "CREATE OR REPLACE FUNCTION public.f() RETURNS int AS $$ " + "x" * 500


@pytest.mark.parametrize(
    ("kind", "expected", "found", "sentences"),
    [
        ("index", (INDEX,), (INDEX,), []),
        ("index", (INDEX,), (), [f"Index is missing: {INDEX}"]),
        ("index", (), (INDEX,), [f"Index is there, but not in the set: {INDEX}"]),
        ("index", (INDEX, INDEX), (INDEX,), [f"Index is missing: {INDEX}"]),
        ("constraint", (CHECK,), (CHECK.replace(">", "<"),), ["Constraint public.users positive differs: "]),
        ("index", (INDEX,), (INDEX.replace("btree", "hash"),), ["Index users_email differs: "]),
        ("routine", (LONG + " 1 $$",), (LONG + " 2 $$",), ["xxx 2 $$ instead of …xxxx"]),
        (
            "constraint",
            (CHECK,),
            (CHECK.replace("positive", "other"),),
            ["is there, but not in the set: public.users other", "is missing: public.users positive"],
        ),
    ],
)
def test_a_definitions_difference_is_named(
    kind: str, expected: tuple[str, ...], found: tuple[str, ...], sentences: list[str]
) -> None:
    differences = compare_postgresql(make_postgresql(**{kind: expected}), make_postgresql(**{kind: found}))
    assert len(differences) == len(sentences)
    for difference, sentence in zip(differences, sentences, strict=True):
        assert sentence in difference


def test_a_kind_that_only_one_side_has_is_compared() -> None:
    assert compare_postgresql(make_postgresql(index=(INDEX,)), make_postgresql()) != ()
    assert compare_postgresql(make_postgresql(), make_postgresql(index=(INDEX,))) != ()
    assert compare_postgresql(make_postgresql(index=()), make_postgresql()) == ()
