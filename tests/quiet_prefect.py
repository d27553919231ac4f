"""Prefect without what the tests' server has no answer to, for flows in processes of their own making."""

from prefect import results
from prefect.events import utilities


def ask_and_tell_no_more_than_needed() -> None:
    """Let this process build and send no events, and not ask where the server wants results to be kept.

    The tests' server neither records nor reads events, and they are two thirds of what a task run costs. What
    rests on them (automations, the watch, dead runs) is specified with servers and workers as deployed.
    Nobody told it of a place for results, and every flow run would ask three times, by a new client each.
    """
    utilities.should_emit_events = lambda: False  # type: ignore[attr-defined]
    results._read_server_default_result_storage_block_id = lambda: None
