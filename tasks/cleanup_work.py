"""The work of a cleanup rule: archive a part, delete it batch by batch, and the next part.

Every step is in the journal when it is done, so that a killed run is finished by the next: nothing is deleted
that is not in the archive, and nothing stays in the archive that was not deleted.
"""

from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Final

from prefect.logging import get_run_logger

from tasks.application_comfort import await_comfort, has_passed
from tasks.archives import ArchiveStore, open_archives
from tasks.cleanup_deleting import Deleting
from tasks.cleanup_progress import ARCHIVED, CUT, EMPTIED, PUBLISHED, Progress
from tasks.cleanup_source import CleanupSource
from tasks.errors import RunbookError, SourceError
from tasks.journal import Journal
from tasks.opening_cleanup import open_cleanup_source
from tasks.records.archive import ArchiveManifest, ArchivePart
from tasks.records.cleanup import CleanedRule, RuleToClean
from tasks.records.service import ServiceProfile
from tasks.retrying import retried

_MOST_ENTRIES: Final = 10_000
_MOST_BYTES: Final = 16 << 20


@retried
def clean_rule(
    profile: ServiceProfile, work: RuleToClean, journal: Journal, deadline: datetime | None
) -> bool:
    """Given a rule of a plan, archive and delete what it names; return False if the deadline came before.

    Tried again, it begins with what the try before left. Raise ``SufferingError`` if the application does not
    recover; what was deleted by then is in the archive, and nothing else.
    """
    with open_cleanup_source(profile) as source:
        worker = _Worker(profile, work, journal, source)
        worker.finish_part()
        return worker.clean(deadline)


@retried
def finish_rule(profile: ServiceProfile, work: RuleToClean, journal: Journal) -> CleanedRule:
    """Given a rule that was begun, close its last part and publish its archive.

    Return what was done for the rule. Done twice, it does nothing.
    """
    with open_cleanup_source(profile) as source:
        worker = _Worker(profile, work, journal, source)
        worker.finish_part()
        return worker.publish()


class _Worker:
    """One rule of one run."""

    def __init__(
        self, profile: ServiceProfile, work: RuleToClean, journal: Journal, source: CleanupSource
    ) -> None:
        self._profile, self._work, self._rule, self._source = profile, work, work.rule, source
        self._archives: ArchiveStore = open_archives(profile)
        self._progress = Progress(journal, work.rule.name)

    def clean(self, deadline: datetime | None) -> bool:
        """Take part after part until nothing is left."""
        log = get_run_logger()
        most = _MOST_ENTRIES if self._work.archive_id else self._rule.batch
        while not has_passed(deadline):
            entries = self._source.read_expired(
                self._rule, self._work.cutoff, most, _MOST_BYTES, self._work.oldest
            )
            if not entries:
                return True
            part = self._archive(entries)
            finished = self._delete_part(part, entries, deadline)
            if not finished:
                return False
            log.info(
                "%s: %s of about %s deleted.", self._rule.name, self._progress.deleted, self._work.entries
            )
        return False

    def finish_part(self) -> None:
        """Find out what is gone of a part that an earlier run or try was deleting, and close it.

        What is left of it stays where it is, and not in the archive: whoever plans anew meets it.
        """
        part = self._progress.under_way
        if part is None:
            return
        entries = self._archives.read_part(part, self._profile.database.kind)
        deleting = Deleting(self._source, self._work, self._progress, entries)
        deleting.settle()
        self._close_part(part, entries, deleting.gone)

    def publish(self) -> CleanedRule:
        """Write the manifest of what was archived, or throw away what never became a part."""
        parts, archive_id = tuple(self._progress.parts.values()), self._work.archive_id
        if archive_id and not self._progress.is_published:
            if parts:
                self._archives.publish(self._describe(archive_id, parts))
            else:
                self._archives.discard(self._rule.name, archive_id)
            self._progress.write(PUBLISHED)
        return CleanedRule(
            rule=self._rule.name,
            archive_id=archive_id if parts else None,
            entries=sum(part.entries for part in parts) if archive_id else self._progress.deleted,
            raw_bytes=sum(part.raw_bytes for part in parts),
            stored_bytes=sum(part.stored_bytes for part in parts),
        )

    def _archive(self, entries: Sequence[bytes]) -> ArchivePart | None:
        if self._work.archive_id is None:
            return None
        number = self._progress.next_number
        part = self._archives.write_part(self._rule.name, self._work.archive_id, number, entries)
        self._progress.write(ARCHIVED, part=part.model_dump(mode="json"))
        return part

    def _delete_part(
        self, part: ArchivePart | None, entries: Sequence[bytes], deadline: datetime | None
    ) -> bool:
        """Delete a part; return False if the deadline came first.

        Whatever ends it, the archive holds what is gone and no more. Only where nobody can tell what a server
        did last, the part stays open: it is seen when the server is back.
        """
        deleting = Deleting(self._source, self._work, self._progress, entries)

        def may_go_on() -> bool:
            return await_comfort(self._profile, self._source, None if deleting.has_begun else deadline)

        try:
            deleting.go_on(may_go_on)
        except RunbookError:
            if not deleting.is_in_doubt:
                self._close_part(part, entries, deleting.gone)
            raise
        self._close_part(part, entries, deleting.gone)
        if deleting.stubborn:
            raise SourceError(
                f"{self._profile.name}: {deleting.stubborn:,} entries of {self._rule.source} were not "
                "deleted, although they are there and nobody changed them: look for a trigger."
            )
        return deleting.has_begun or not has_passed(deadline)

    def _close_part(self, part: ArchivePart | None, entries: Sequence[bytes], gone: Sequence[int]) -> None:
        """Put down that a part is done; what is still in the database must not be in the archive as well."""
        if part is None or self._work.archive_id is None:
            return
        if len(gone) == len(entries):
            self._progress.write(EMPTIED, number=part.number)
            return
        smaller = None
        if gone:
            number, kept = self._progress.next_number, [entries[place] for place in gone]
            smaller = self._archives.write_part(self._rule.name, self._work.archive_id, number, kept)
        dumped = smaller.model_dump(mode="json") if smaller else None
        self._progress.write(CUT, number=part.number, part=dumped)

    def _describe(self, archive_id: str, parts: tuple[ArchivePart, ...]) -> ArchiveManifest:
        return ArchiveManifest(
            service=self._profile.name,
            rule=self._rule.name,
            archive_id=archive_id,
            kind=self._profile.database.kind,
            database=self._work.database,
            source=self._rule.source,
            columns=self._work.columns,
            time_field=self._rule.time_field,
            cutoff=self._work.cutoff,
            started_at=self._work.started_at,
            # Of the journal, so that the same manifest is written again after a kill.
            finished_at=self._progress.last_at or self._work.started_at,
            tool_version=version("operations-runbooks"),
            parts=parts,
        )
