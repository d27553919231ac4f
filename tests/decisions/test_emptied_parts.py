"""A collection or table that lost all it held is found, and what empties itself is not."""

from typing import Any

import pytest

from flows.decisions.emptied_parts import find_emptied
from tasks.records.backup import CollectionContent, Manifest
from tests.decisions.test_backup_judgement import make_collection, make_manifest, make_postgresql

LARGE = make_collection("users", 5_000, 1_000_000)


def night(documents: int | None, set_id: str = "before", **changed: Any) -> Manifest:
    """A set with a large collection, and one of so many documents beside it, or none."""
    found: list[CollectionContent] = [LARGE]
    if documents is not None:
        found.append(make_collection("papers", documents, 1_000).model_copy(update=changed))
    return make_manifest(*found, set_id=set_id)


GOOD = [night(900, "newest"), night(800), night(700)]


@pytest.mark.parametrize(("now", "word"), [(0, "empty"), (None, "not there")])
def test_what_lost_all_that_it_held_is_found_beside_a_large_database(now: int | None, word: str) -> None:
    (found,) = find_emptied(night(now), GOOD, ())
    assert found == (
        f"Collection papers is {word}, and held 900 documents in the last good set newest: find out who did "
        "that; if it is right, run again with accept_changed_size."
    )


def test_a_table_is_found_as_well() -> None:
    (found,) = find_emptied(make_postgresql(0), [make_postgresql(400)] * 3, ())
    assert found.startswith("Table t0 is empty, and held 400 rows in the last good set")


@pytest.mark.parametrize(
    ("now", "good"),
    [
        # It holds something, or held nothing.
        (night(1), GOOD),
        (night(0), [night(0), night(0), night(0)]),
        # So few come and go, and a queue is empty some nights.
        (night(0), [night(99), night(900), night(900)]),
        (night(0), [night(900), night(0), night(900)]),
        (night(0), [night(900), night(None), night(900)]),
        # Two sets are not enough to tell; and an older one does not count.
        (night(0), GOOD[:2]),
        (night(None), [night(None), *GOOD]),
        # What comes new is no loss.
        (night(900), [night(None)] * 3),
    ],
)
def test_what_comes_and_goes_is_not_found(now: Manifest, good: list[Manifest]) -> None:
    assert find_emptied(now, good, ()) == ()


def test_what_expires_by_itself_or_may_be_emptied_by_the_profile_is_not_found() -> None:
    index = '{"key": {"at": 1}, "expireAfterSeconds": 60}'
    assert find_emptied(night(0), [night(900, indexes=(index,))] * 3, ()) == ()
    assert find_emptied(night(0), [night(900, options='{"expireAfterSeconds": 60}')] * 3, ()) == ()
    assert find_emptied(night(0), GOOD, ("papers",)) == ()
    assert len(find_emptied(night(0), GOOD, ("users",))) == 1
