"""Deletes a part's entries from the database batch by batch, and knows which of them are gone."""

from collections.abc import Callable, Iterator, Sequence

from prefect.logging import get_run_logger

from tasks.cleanup_progress import DELETED, Progress
from tasks.cleanup_source import CleanupSource
from tasks.errors import LockedError, RunbookError, UnreachableError
from tasks.records.cleanup import RuleToClean


class Deleting:
    """The entries of one part, in the order in which they are deleted.

    Of one that is there otherwise, a look does not tell whether the application changed it before we came to
    it, or made it anew after we had deleted it.
    """

    def __init__(
        self, source: CleanupSource, work: RuleToClean, progress: Progress, entries: Sequence[bytes]
    ) -> None:
        """Given a part's entries, begin where an earlier run or try came to."""
        self._source, self._work, self._progress, self._entries = source, work, progress, entries
        self._at = progress.gone_through
        # The places of those entries that are gone from the database.
        self.gone = list(progress.gone)
        # Entries that were not deleted although they are there and nobody changed them.
        self.stubborn = 0
        # Nobody knows what is gone of the batch that it is at.
        self.is_in_doubt = False

    @property
    def has_begun(self) -> bool:
        """Was any of the entries gone through?"""
        return self._at > 0

    def go_on(self, may_go_on: Callable[[], bool]) -> None:
        """Delete what is left, batch by batch, for as long as it may."""
        while (batch := self._next_batch()) and may_go_on():
            self.is_in_doubt = True
            try:
                deleted = self._delete(batch)
            except LockedError:
                self.is_in_doubt = False
                raise
            except UnreachableError:
                raise
            except RunbookError:
                # A server may refuse at the end, when it has done it already.
                self._put_down(batch, deleted=0, at_most=len(batch))
                raise
            self._put_down(batch, deleted=deleted, at_most=deleted)

    def settle(self) -> None:
        """Find out what is gone of the batch that an earlier run was at: the journal has no word of it.

        It is deleted once more, since only that proves that no transaction of the dead is still to be
        committed: such a one would keep us waiting.
        """
        if not (batch := self._next_batch()):
            return
        try:
            deleted = self._delete(batch)
        except UnreachableError:
            raise
        except RunbookError as error:
            get_run_logger().warning("%s: the rest of a part stays: %s", self._work.rule.name, error)
            deleted = 0
        self._put_down(batch, deleted=deleted, at_most=len(batch))

    def _next_batch(self) -> Sequence[bytes]:
        return self._entries[self._at : self._at + self._work.rule.batch]

    def _delete(self, batch: Sequence[bytes]) -> int:
        return self._source.delete(self._work.rule, self._work.cutoff, batch)

    def _put_down(self, batch: Sequence[bytes], *, deleted: int, at_most: int) -> None:
        """Write down what is gone of a batch, of which a call just deleted so many, and all calls at most."""
        places = range(len(batch)) if deleted == len(batch) else list(self._find_gone(batch, at_most))
        gone = [(self._at + first, self._at + end) for first, end in _spans(places)]
        self._at += len(batch)
        self.gone += [place for first, end in gone for place in range(first, end)]
        self.is_in_doubt = False
        self._progress.write(DELETED, deleted=deleted, gone_through=self._at, gone=gone)

    def _find_gone(self, batch: Sequence[bytes], at_most: int) -> Iterator[int]:
        found = self._compare(batch)
        self.stubborn += len(batch) - sum(found)
        # One that we may have deleted must be in the archive; one too many there harms nobody.
        return self._locate(batch, 0, found, with_others=found[0] < at_most)

    def _locate(
        self, batch: Sequence[bytes], first: int, found: tuple[int, int], *, with_others: bool
    ) -> Iterator[int]:
        """Yield the places of what is gone of a batch of which so many are missing, and there otherwise."""
        gone = sum(found) if with_others else found[0]
        if gone == len(batch):
            yield from range(first, first + len(batch))
        elif gone:
            half = len(batch) // 2
            for start, piece in ((first, batch[:half]), (first + half, batch[half:])):
                yield from self._locate(piece, start, self._compare(piece), with_others=with_others)

    def _compare(self, batch: Sequence[bytes]) -> tuple[int, int]:
        missing, otherwise = self._source.compare(self._work.rule.source, self._work.columns, batch)
        return missing, len(otherwise)


def _spans(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Return ascending numbers as spans of such as follow each other, each with the number behind it."""
    start = 0
    for place in range(1, len(places) + 1):
        if place == len(places) or places[place] != places[place - 1] + 1:
            yield places[start], places[place - 1] + 1
            start = place
