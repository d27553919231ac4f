"""How long a service does not answer is measured from outside, on a real server that is taken away."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.availability import _Probe, await_healthy_for, measure, probing
from tasks.errors import UnreachableError
from tasks.profiles import read_profile
from tasks.records.service import ServiceProfile
from tests.adapters.test_process_manager import changed, wait_until

PROFILE = read_profile(Path(__file__).parents[2] / "deployments" / "services" / "invoice.yaml")
NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)


class Service:
    """A health URL that is good, or not, as it is told."""

    def __init__(self) -> None:
        self.good = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps({"status": "OK" if outer.good else "ERROR"}).encode()
                self.send_response(200 if outer.good else 503)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        self.profile = changed(PROFILE, health_url=f"http://127.0.0.1:{self.server.server_port}/health")


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_an_outage_is_measured_and_one_that_serves_all_the_while_has_none(service: Service) -> None:
    with probing(service.profile) as prober:
        wait_until(lambda: prober.measure().probes > 3)
        assert prober.measure().failed == 0
        service.good = False
        began = time.monotonic()
        failed_before = prober.measure().failed
        wait_until(lambda: prober.measure().failed > failed_before + 3)
        service.good = True
        lasted = time.monotonic() - began
    found = prober.measure()
    assert found.failed >= 3
    assert lasted <= found.unavailable_seconds <= lasted + 2 * found.resolution_seconds + 1
    assert "it did not answer for" in found.in_words


def test_a_prober_of_a_service_that_is_back_ends_with_a_good_answer(service: Service) -> None:
    service.good = False
    with probing(service.profile) as prober:
        wait_until(lambda: prober.measure().failed)
        service.good = True
    assert prober.measure().probes > prober.measure().failed


def test_a_service_that_stays_healthy_is_waited_for_and_one_that_does_not_is_an_error(
    service: Service,
) -> None:
    def staying(seconds: float) -> ServiceProfile:
        outage = service.profile.outage.model_copy(update={"healthy_for": timedelta(seconds=seconds)})
        return service.profile.model_copy(update={"outage": outage})

    assert await_healthy_for.fn(staying(0.1)).problem is None
    threading.Timer(0.2, lambda: setattr(service, "good", False)).start()
    with pytest.raises(
        UnreachableError, match=r"was healthy for \d+ s of the 60 s that it has to be, then it"
    ):
        await_healthy_for.fn(staying(60))


probes = st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3), st.booleans()), max_size=30)


@given(probes)
def test_a_measured_outage_holds_every_failed_request_and_no_more_than_the_whole_time(
    steps: list[tuple[float, float, bool]],
) -> None:
    at, made = 0.0, []
    for pause, took, good in steps:
        made.append(_Probe(at + pause, at + pause + took, good))
        at += pause + took
    found = measure(NOW, tuple(made))
    failed = [probe for probe in made if not probe.good]
    assert found.failed == len(failed)
    assert (found.unavailable_seconds == 0) or failed
    spent = sum(probe.ended - probe.began for probe in failed)
    whole = made[-1].ended - made[0].began if made else 0.0
    assert spent - 1e-6 <= found.unavailable_seconds <= whole + 1e-6
