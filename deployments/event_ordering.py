"""How Prefect's server orders events: what came before its own start is waited for no longer than seconds.

An event of a run follows that of the state before. Prefect remembers in memory which it has seen, and lets
one whose forerunner it has not seen wait for 15 minutes: so after a restart nobody was told of a dead run.
``PREFECT_SERVER_EVENTS_CAUSAL_ORDERING`` names this module.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from prefect.server.events.ordering import PRECEDING_EVENT_LOOKBACK, memory
from prefect.server.events.schemas.events import ReceivedEvent

PATIENCE: Final = timedelta(seconds=10)


class CausalOrdering(memory.CausalOrdering):
    """Prefect's own, with less patience. The server looks for those that waited too long every 5 s."""

    async def record_follower(self, event: ReceivedEvent) -> None:
        """Let an event wait for its forerunner, counted as if most of the time to wait were over."""
        await super().record_follower(event)
        async with self._lock:
            self._waitlist[event.id] -= PRECEDING_EVENT_LOOKBACK - PATIENCE

    async def wait_for_leader(self, event: ReceivedEvent) -> None:
        """Raise Prefect's ``EventArrivedEarly`` if the forerunner may still come."""
        if datetime.now(UTC) - event.received < PATIENCE:
            await super().wait_for_leader(event)
