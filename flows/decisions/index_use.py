"""How often an index was used over time, from samples of a counter that begins anew now and then."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from zlib import crc32

from tasks.records.index_care import ObservedUse, name_index
from tasks.records.indexes import IndexFacts

_SINCE, _DEFINITION = "since:", "definition:"
Sample = tuple[datetime, Mapping[str, float]]


def make_sample(indexes: Sequence[IndexFacts]) -> dict[str, float]:
    """Given the indexes as they are now, return each one's count, since when that runs, and which it is."""
    counted = {name_index(index): float(index.uses) for index in indexes if index.uses is not None}
    began = {
        f"{_SINCE}{name_index(index)}": index.uses_since.timestamp()
        for index in indexes
        if index.uses is not None and index.uses_since is not None
    }
    defined = {
        f"{_DEFINITION}{name_index(index)}": float(crc32(index.definition.encode()))
        for index in indexes
        if index.uses is not None and index.definition
    }
    return counted | began | defined


def sum_uses(key: str, samples: Sequence[Sample]) -> ObservedUse | None:
    """Given samples in any order, return an index's use; None while none has it.

    An index that a sample lacks was made anew after it: its time begins there. So does that of one whose
    definition is another than before; a sample that says none is of the same index.
    """
    found: ObservedUse | None = None
    before: Sample | None = None
    known: float | None = None
    for sample in sorted(samples, key=lambda one: one[0]):
        if key not in sample[1]:
            found = before = known = None
            continue
        definition = sample[1].get(_DEFINITION + key, known)
        is_same = known in {None, definition}
        found = _go_on(found, *_step(key, before, sample)) if found and before and is_same else _NOTHING
        before, known = sample, definition
    return found


_NOTHING = ObservedUse(uses=0, watched=timedelta(0), idle=timedelta(0))


def _go_on(found: ObservedUse, uses: int, watched: timedelta) -> ObservedUse:
    idle = found.idle + watched if uses == 0 else timedelta(0)
    return ObservedUse(uses=found.uses + uses, watched=found.watched + watched, idle=idle)


def _step(key: str, before: Sample, after: Sample) -> tuple[int, timedelta]:
    """Return the uses between two samples, and how much of the time between them they cover."""
    (earlier, old), (later, new) = before, after
    since, is_same = new.get(_SINCE + key), new.get(_SINCE + key) == old.get(_SINCE + key)
    if is_same and new[key] >= old[key]:
        return int(new[key] - old[key]), later - earlier
    if since is None or is_same:
        # It began anew, and nobody says when.
        return int(new[key]), timedelta(0)
    # In seconds: a counter may have begun before there were time zones.
    covered = min(later.timestamp() - since, (later - earlier).total_seconds())
    return int(new[key]), timedelta(seconds=max(covered, 0.0))
