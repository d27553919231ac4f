"""Prefect without the stream of events, for tests that run flows in processes of their own making."""

from prefect.events import utilities


def emit_no_events() -> None:
    """Let this process build and send no events.

    The tests' server neither records nor reads them, and they are two thirds of what a task run costs. What
    rests on events (automations, the watch, dead runs) is specified with servers and workers as deployed.
    """
    utilities.should_emit_events = lambda: False  # type: ignore[attr-defined]
