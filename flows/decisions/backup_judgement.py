"""Is a set what a backup of this service should be? Bytes that verify can still be those of nothing.

What is judged here is the manifest against sense and against the sets before it; whether the bytes are
what the manifest says is the reread's business.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from statistics import median

from tasks.records.backup import Manifest, SetKind, SetSummary
from tasks.records.figures import say_bytes, say_count, say_duration

_MOST_HISTORY = 14
_LEAST_HISTORY = 3
# Below these, a factor is noise: a log file more, a test user less.
_NOISE_BYTES = 1_000_000
_NOISE_ENTRIES = 100


def judge_set(
    manifest: Manifest,
    history: Sequence[SetSummary],
    size_factor: float,
    *,
    accept_changed_size: bool = False,
) -> tuple[str, ...]:
    """Given a set and those before it, return what is wrong with it; nothing means it is good.

    ``accept_changed_size`` is the operator's word that an unusual size is right. It never excuses a set
    with nothing in it where the last good one held something.
    """
    good = list_good_sets(manifest.set_id, history)
    findings = [*_find_empty_objects(manifest), *_find_empty_parts(manifest)]
    if manifest.parts and manifest.entries == 0:
        findings += _judge_empty_database(manifest, good, accept_changed_size=accept_changed_size)
    elif not accept_changed_size:
        findings += _judge_size(manifest, good[:_MOST_HISTORY], size_factor)
    return tuple(findings)


def list_good_sets(but: str, history: Sequence[SetSummary]) -> list[SetSummary]:
    """Return the sets that passed what proved them, newest first, without the one that is judged."""
    return sorted(
        (
            found
            for found in history
            if found.set_id != but
            and found.kind != "safety"
            and found.reread_passed
            and found.drill_passed is not False
        ),
        key=lambda found: (found.created_at, found.set_id),
        reverse=True,
    )


def expect_summary(set_id: str, kind: SetKind, created_at: datetime, reason_pinned: str | None) -> SetSummary:
    """Return tonight's set as it will be once published and verified; figures nobody knows yet are 0."""
    return SetSummary(
        set_id=set_id,
        kind=kind,
        created_at=created_at,
        seconds=0.0,
        stored_bytes=0,
        raw_bytes=0,
        parts=0,
        entries=0,
        reread_passed=True,
        drill_passed=None,
        pinned=reason_pinned,
        leased_by=None,
    )


def describe_backup(manifest: Manifest, deletes: int, kept: int, *, seconds: float | None = None) -> str:
    """Return the run's result in one sentence; ``seconds`` is the whole run's time, verification included."""
    part, entry = name_units(manifest)
    took = manifest.seconds if seconds is None else seconds
    return (
        f"{manifest.service}: {say_count(manifest.parts, part)} with {say_count(manifest.entries, entry)} "
        f"({say_bytes(manifest.raw_bytes)}, {say_bytes(manifest.stored_bytes)} stored) saved and verified "
        f"in {say_duration(took)}; {say_count(deletes, 'old set')} deleted, {kept:,} kept."
    )


def name_units(manifest: Manifest) -> tuple[str, str]:
    """Return what the database's parts and their entries are called."""
    return ("collection", "document") if manifest.mongodb is not None else ("table", "row")


def _find_empty_objects(manifest: Manifest) -> list[str]:
    # An empty file in gzip still has 20 bytes: zero stored bytes are never right.
    findings = [
        f"{stored.key} has 0 bytes, so nothing was stored: look at the run's log and back up again."
        for stored in manifest.objects
        if stored.bytes == 0
    ]
    findings += [
        f"Collection {content.collection} counts {content.documents:,} documents, but the set has no bytes "
        "of them: back up again."
        for content in (manifest.mongodb.collections if manifest.mongodb is not None else ())
        if content.kind != "view"
        and content.documents > 0
        and (content.data is None or content.data.raw_bytes == 0)
    ]
    if manifest.postgresql is not None and manifest.postgresql.dump.raw_bytes == 0:
        findings.append("pg_dump wrote 0 bytes: look at the run's log and back up again.")
    return findings


def _find_empty_parts(manifest: Manifest) -> list[str]:
    findings = []
    part, _ = name_units(manifest)
    if manifest.mongodb is None and manifest.postgresql is None:
        findings.append(f"The set holds no database: look at the profile of {manifest.service}.")
    elif manifest.parts == 0:
        findings.append(
            f"The database has no {part}s: look whether the URL of {manifest.service} names the right one."
        )
    if manifest.application.files == 0:
        findings.append(
            "The application's archive holds no files: look at application.directory and "
            f"exclude_from_backup in the profile of {manifest.service}."
        )
    return findings


def _judge_empty_database(
    manifest: Manifest, good: Sequence[SetSummary], *, accept_changed_size: bool
) -> list[str]:
    part, entry = name_units(manifest)
    nothing = f"The database has {say_count(manifest.parts, part)} and not one {entry}"
    if good and good[0].entries > 0:
        finding = (
            f"{nothing}, where the last good set {good[0].set_id} has {say_count(good[0].entries, entry)}: "
            "find out who emptied it, or whether the URL names another database."
        )
        return [finding]
    if good or accept_changed_size:
        return []
    finding = (
        f"{nothing}, and there is no earlier set to compare with: look whether the URL names the right "
        "database; if it is new and empty, run again with accept_changed_size."
    )
    return [finding]


def _judge_size(manifest: Manifest, good: Sequence[SetSummary], size_factor: float) -> list[str]:
    if len(good) < _LEAST_HISTORY:
        return []
    _, entry = name_units(manifest)
    measures = (
        (manifest.raw_bytes, [found.raw_bytes for found in good], _NOISE_BYTES, _say_raw),
        (manifest.entries, [found.entries for found in good], _NOISE_ENTRIES, partial(say_count, noun=entry)),
    )
    findings = []
    for value, earlier, noise, say in measures:
        usual, whose = round(median(earlier)), f"the median of the last {len(good)} good sets"
        if _is_far(earlier[0], usual, size_factor, noise):
            # Somebody accepted the newest one's size: from then on it is the measure, or every night would
            # ask again until the median has caught up.
            usual, whose = earlier[0], f"the last good set {good[0].set_id}, whose size was accepted"
        if _is_far(value, usual, size_factor, noise):
            findings.append(
                f"The set holds {say(value)}, {_say_change(value, usual)} than {whose}, {say(usual)} "
                f"(size_factor is {size_factor:g}): find out why; if it is right, run again with "
                "accept_changed_size."
            )
    return findings


def _is_far(value: int, usual: int, size_factor: float, noise: int) -> bool:
    return max(value, usual) >= noise and not usual / size_factor <= value <= usual * size_factor


def _say_raw(count: int) -> str:
    return f"{say_bytes(count)} before compression"


def _say_change(value: int, usual: int) -> str:
    if min(value, usual) == 0:
        return "much more" if value else "much less"
    if value > usual:
        return f"{value / usual:,.1f} times more"
    return f"{usual / value:,.1f} times less"
