"""The sandbox's applications, broken by its own faults: what may be remedied at once is healthy again."""

from collections.abc import Iterator
from typing import Any, cast

import httpx
import pytest
from prefect.client.schemas.objects import State

from deployments.sandbox.faults import break_fault
from deployments.sandbox.mending import mend
from deployments.sandbox.stack import Sandbox
from flows.outage_triage import outage_triage
from tasks.profiles import read_profile
from tasks.remedies import read_remedies
from tests.runbooks.conftest import completed, wait_until

# By fault: whose, and what helps. What a test of a ledger shows is left to it.
REMEDIED = {
    "connection-limit": ("propertypulse", ["reset-connections"]),
    "database-locked": ("propertypulse", ["reset-connections"]),
}


@pytest.fixture
def mended(sandbox: Sandbox, prefect_server: None) -> Iterator[Sandbox]:
    """The sandbox, mended afterwards, and without the past that spends its budget."""
    try:
        yield sandbox
    finally:
        mend(sandbox)
        for past in (sandbox.state / "runbooks").glob("*/remedies.jsonl"):
            past.unlink()


@pytest.mark.parametrize("fault", REMEDIED)
def test_a_fault_that_may_be_remedied_is_healthy_again(mended: Sandbox, fault: str) -> None:
    service, remedies = REMEDIED[fault]
    break_fault(mended, fault, service)
    state = cast("State[Any]", outage_triage(service, return_state=True))
    assert "healthy again" in completed(state)
    profile = read_profile(mended.state / "services" / f"{service}.yaml")
    assert [remedy.remedy for remedy in read_remedies.fn(profile)] == remedies
    wait_until(lambda: httpx.get(profile.application.health_url, timeout=5).is_success)
