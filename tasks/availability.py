"""Measure from outside for how long a service does not answer, and whether it stays healthy."""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.errors import UnreachableError
from tasks.http_probe import observe_health, probe_health
from tasks.records.availability import Availability
from tasks.records.evidence import HealthFacts
from tasks.records.service import ServiceProfile

_PAUSE_SECONDS = 0.1
# A request that takes longer has lost its user's patience, and would hide how long the outage is.
_REQUEST_SECONDS = 2.0
_STAYS_PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class _Probe:
    """A request: when it began and ended, on the monotonic clock, and whether the answer was good."""

    began: float
    ended: float
    good: bool


@dataclass
class Prober:
    """Asks a health URL until it is told to stop; ``measure`` may be called at any time."""

    url: str
    _began: datetime = field(default_factory=lambda: datetime.now(UTC))
    _probes: list[_Probe] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Ask, again and again; what was asked too early to be good is asked once more at the end."""
        while not self._over.is_set():
            self._ask()
            self._over.wait(_PAUSE_SECONDS)
        if not self._probes[-1].good:
            self._ask()

    def stop(self) -> None:
        """Stop asking after the request that is under way."""
        self._over.set()

    def measure(self) -> Availability:
        """Return what was seen so far."""
        return measure(self._began, tuple(self._probes))

    def _ask(self) -> None:
        began = time.monotonic()
        problem = probe_health.fn(self.url, _REQUEST_SECONDS).problem
        self._probes.append(_Probe(began, time.monotonic(), problem is None))


@contextmanager
def probing(profile: ServiceProfile) -> Generator[Prober]:
    """Ask the service's health URL while the block runs; yield the prober."""
    prober = Prober(profile.application.health_url)
    thread = threading.Thread(target=prober.run, daemon=True)
    thread.start()
    try:
        yield prober
    finally:
        prober.stop()
        thread.join()


def measure(began: datetime, probes: tuple[_Probe, ...]) -> Availability:
    """Given requests in order, return for how long the service did not answer, at most."""
    unavailable = 0.0
    last_good = probes[0].began if probes else 0.0
    is_out = False
    gaps = [0.0]
    for probe in probes:
        if probe.good:
            if is_out:
                unavailable += probe.ended - last_good
            else:
                gaps.append(probe.ended - last_good)
            last_good = probe.ended
        is_out = not probe.good
    if is_out:
        unavailable += probes[-1].ended - last_good
    lasted = timedelta(seconds=probes[-1].ended - probes[0].began if probes else 0.0)
    return Availability(
        began=began,
        ended=began + lasted,
        probes=len(probes),
        failed=sum(not probe.good for probe in probes),
        unavailable_seconds=unavailable,
        resolution_seconds=max(gaps),
    )


@task(cache_policy=NO_CACHE, persist_result=False)
def await_healthy_for(profile: ServiceProfile) -> HealthFacts:
    """Given a service that is healthy, return its last answers once it was so for ``outage.healthy_for``.

    Raise ``UnreachableError`` as soon as it is not.
    """
    wanted = profile.outage.healthy_for
    began = time.monotonic()
    while True:
        facts = observe_health.fn(profile)
        lasted = time.monotonic() - began
        if problems := [answer.problem for answer in facts.answers if answer.problem is not None]:
            raise UnreachableError(
                f"{profile.name}: {profile.application.health_url} was healthy for {lasted:.0f} s of the "
                f"{wanted.total_seconds():.0f} s that it has to be, then {problems[0]}."
            )
        if lasted >= wanted.total_seconds():
            return facts
        time.sleep(_STAYS_PAUSE_SECONDS)
