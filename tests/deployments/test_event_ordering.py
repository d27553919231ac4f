"""An event whose forerunner came before the server's start is looked at within seconds."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect.server.events import ordering
from prefect.server.events.ordering import EventArrivedEarly
from prefect.server.events.schemas.events import ReceivedEvent

from deployments import event_ordering
from deployments.event_ordering import PATIENCE, CausalOrdering


def an_event(age: timedelta, follows: ReceivedEvent | None = None) -> ReceivedEvent:
    at = datetime.now(UTC) - age
    return ReceivedEvent.model_validate(
        {
            "id": uuid4(),
            "occurred": at,
            "received": at,
            "event": "prefect.flow-run.Crashed",
            "resource": {"prefect.resource.id": "prefect.flow-run.1"},
            "follows": follows.id if follows else None,
        }
    )


async def look(order: CausalOrdering, event: ReceivedEvent) -> bool:
    """As the server does; tell whether the event is looked at now."""

    async def handle(event: ReceivedEvent, depth: int = 0) -> None:
        raise AssertionError

    try:
        async with order.preceding_event_confirmed(handle, event):
            return True
    except EventArrivedEarly:
        return False


@pytest.fixture
def order() -> CausalOrdering:
    return CausalOrdering(f"of a test {uuid4()}")


def test_prefect_takes_the_module() -> None:
    assert isinstance(event_ordering, ordering.CausalOrderingModule)


def test_an_event_waits_for_its_forerunner_in_order(order: CausalOrdering) -> None:
    async def specify() -> None:
        leader = an_event(timedelta(0))
        follower = an_event(timedelta(0), follows=leader)
        assert not await look(order, follower)
        assert await order.get_lost_followers() == []
        assert [found.id for found in await order.get_followers(leader)] == [follower.id]
        await order.record_event_as_seen(leader)
        assert await look(order, follower)

    asyncio.run(specify())


def test_one_whose_forerunner_never_comes_is_looked_at_after_seconds(order: CausalOrdering) -> None:
    async def specify() -> None:
        before_the_start = an_event(timedelta(minutes=1))
        early = an_event(PATIENCE - timedelta(seconds=1), follows=before_the_start)
        assert not await look(order, early)
        old = early.model_copy(update={"received": early.received - timedelta(seconds=2)})
        await order.record_follower(old)
        assert [found.id for found in await order.get_lost_followers()] == [old.id]
        assert await look(order, old)

    asyncio.run(specify())
