"""What a cleanup looks at before and after: rules, clocks, archives, the figures of earlier runs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from tasks.archives import open_archives
from tasks.artifacts import publish_markdown
from tasks.cleanup_rendering import render_freed, render_months
from tasks.errors import DamagedSetError
from tasks.history import Measurement, read_history, record_measurement
from tasks.opening_cleanup import open_cleanup_source
from tasks.records.cleanup import AfterCleaning, CleanedRule, RuleFacts
from tasks.records.data_care import CleanupRule
from tasks.records.service import ServiceProfile
from tasks.retrying import retried

_RUNBOOK: Final = "audit-log-cleanup"


@retried
def observe_rule(profile: ServiceProfile, rule: CleanupRule, cutoff: datetime) -> RuleFacts:
    """Given a rule and its cutoff, return what it meets in the database."""
    with open_cleanup_source(profile) as source:
        return source.observe(rule, cutoff)


@retried
def look_again(profile: ServiceProfile, rule: CleanupRule, cutoff: datetime) -> AfterCleaning:
    """Given a rule that was applied, return how its collection or table is now."""
    with open_cleanup_source(profile) as source:
        entries, storage_bytes = source.measure(rule.source)
        left = source.read_expired(rule, cutoff, 1, 1)
    return AfterCleaning(rule=rule.name, entries=entries, storage_bytes=storage_bytes, is_clean=not left)


@retried
def read_servers_clock(profile: ServiceProfile) -> datetime:
    """Return the database server's own time."""
    with open_cleanup_source(profile) as source:
        return source.read_clock()


@retried
def name_archives(profile: ServiceProfile, now: datetime) -> dict[str, str]:
    """Return an id for the archive of each rule."""
    archives = open_archives(profile)
    return {rule.name: archives.new_id(now) for rule in profile.cleanup.rules}


@retried
def read_back(profile: ServiceProfile, cleaned: CleanedRule) -> None:
    """Given what a rule archived, read all of it back; raise ``DamagedSetError`` if it is not all there."""
    if cleaned.archive_id is None:
        return
    archives = open_archives(profile)
    manifest = archives.read_manifest(cleaned.rule, cleaned.archive_id)
    entries = sum(len(archives.read_part(part, manifest.kind)) for part in manifest.parts)
    if entries != cleaned.entries:
        raise DamagedSetError(
            f"The archive {cleaned.archive_id} of {cleaned.rule} holds {entries} entries where "
            f"{cleaned.entries} were archived."
        )


def find_last_run(profile: ServiceProfile) -> datetime | None:
    """Return when a cleanup of this service last measured something, or None."""
    moments = [found.at for rule in profile.cleanup.rules for found in read_trend(profile, rule.name)]
    return max(moments, default=None)


def record_trend(profile: ServiceProfile, found: AfterCleaning, at: datetime, freed: int) -> None:
    """Keep how large a rule's collection or table is now, and how many entries it got rid of."""
    values = {"entries": found.entries, "storage_bytes": found.storage_bytes, "freed": freed}
    record_measurement(profile, _name(found.rule), Measurement(at=at, values=values))


def read_trend(profile: ServiceProfile, rule: str) -> tuple[Measurement, ...]:
    """Return what earlier runs measured for a rule, oldest first."""
    return read_history(profile, _name(rule))


def publish_expired(
    profile: ServiceProfile, facts: Sequence[RuleFacts], refused: Sequence[str], warnings: Sequence[str]
) -> UUID:
    """Show what each rule meets."""
    text = render_months(profile.name, facts, refused, warnings)
    return publish_markdown(text, _RUNBOOK, "expired", profile.name)


def publish_freed(
    profile: ServiceProfile,
    said: str,
    cleaned: Sequence[CleanedRule],
    before_and_after: Sequence[tuple[RuleFacts, AfterCleaning]],
) -> UUID:
    """Show what was freed, with what earlier runs measured."""
    trends = [
        (rule.name, trend) for rule in profile.cleanup.rules if (trend := read_trend(profile, rule.name))
    ]
    text = render_freed(profile.name, said, cleaned, before_and_after, trends, profile.zone)
    return publish_markdown(text, _RUNBOOK, "freed", profile.name)


def _name(rule: str) -> str:
    return f"cleanup-{rule}"
