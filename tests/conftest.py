"""What all specifications share: a sandbox of real servers and, for those that run flows, a Prefect server.

Both are started by the first test that asks for them. Tasks are called as ``task.fn`` wherever retries and
states are not the point: that needs no Prefect server.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import certifi

# Before anything imports Prefect, which reads its settings once. Its home is a folder of our own, so that no
# profile of the person who runs the tests matters and nothing is written there; without the three services,
# which only feed the UI, flows run eleven times faster.
_PREFECT_HOME = tempfile.mkdtemp(prefix="prefect-home-")
atexit.register(shutil.rmtree, _PREFECT_HOME, ignore_errors=True)
# Every client reads all authorities that it trusts, also over plain HTTP, which takes longer than a healthy
# answer: one is read faster. The sandbox adds its own to it.
_AUTHORITY = Path(_PREFECT_HOME, "authority.pem")
_END = "-----END CERTIFICATE-----\n"
_AUTHORITY.write_text("".join(certifi.contents().partition(_END)[:2]), encoding="utf-8")
os.environ |= {
    "PREFECT_HOME": _PREFECT_HOME,
    "PREFECT_API_SSL_CERT_FILE": str(_AUTHORITY),
    "SSL_CERT_FILE": str(_AUTHORITY),
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # The server wants no token, and every new client would ask it for one.
    "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false",
    # Unpacking it would take it away from every other server of this virtual environment.
    "PREFECT_SERVER_UI_ENABLED": "false",
}
for _name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_PROFILE"):
    os.environ.pop(_name, None)

from collections.abc import Iterator  # noqa: E402

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings  # noqa: E402
from prefect.testing.utilities import prefect_test_harness  # noqa: E402
from pymongo import MongoClient, monitoring  # noqa: E402

from deployments.sandbox.endpoints import Endpoints  # noqa: E402
from deployments.sandbox.ports import Ports  # noqa: E402
from deployments.sandbox.profiles import write_profiles  # noqa: E402
from deployments.sandbox.stack import Sandbox  # noqa: E402
from tasks.pm2_listing import HOME_VARIABLE  # noqa: E402
from tasks.profiles import SERVICES_VARIABLE, read_profile  # noqa: E402
from tasks.records.service import ServiceProfile  # noqa: E402
from tests.quiet_prefect import ask_and_tell_no_more_than_needed  # noqa: E402

ask_and_tell_no_more_than_needed()
# A busy host is no defect. All else stays as Hypothesis has it, which has its own way where CI is set.
settings.register_profile("patient", parent=settings(), deadline=None)
settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, which have a time limit of their own: at the end nobody would help with one."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Both operated systems, without the engine; ``RUNBOOK_SERVICES`` names the profiles for them.

    One for the whole session: whoever takes a part away brings it back, and whoever writes removes it again.
    """
    with (
        Sandbox(tmp_path_factory.mktemp("sandbox"), Ports.free()) as running,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv(SERVICES_VARIABLE, str(write_profiles(running.state, running.endpoints)))
        environment.setenv("SSL_CERT_FILE", str(running.endpoints.trusted_certificates))
        environment.setenv(HOME_VARIABLE, str(running.pm2.home))
        yield running


@pytest.fixture(scope="session")
def endpoints(sandbox: Sandbox) -> Endpoints:
    """Where everything in the sandbox is."""
    return sandbox.endpoints


@pytest.fixture(scope="session")
def invoice(sandbox: Sandbox) -> ServiceProfile:
    """The service on MongoDB."""
    return read_profile(sandbox.state / "services" / "invoice.yaml")


@pytest.fixture(scope="session")
def propertypulse(sandbox: Sandbox) -> ServiceProfile:
    """The service on PostgreSQL."""
    return read_profile(sandbox.state / "services" / "propertypulse.yaml")


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A Prefect server of the session's own; only tests that run flows ask for it: it takes seconds."""
    with (
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        yield


class Expiry(monitoring.CommandListener):
    """Lets MongoDB delete what has expired just before a read, as it does by itself once a minute."""

    def __init__(self) -> None:
        self.client: MongoClient[dict[str, object]] | None = None
        self._databases = ""

    def before_reads_of(self, databases: str) -> None:
        """Do so from now on before every read of a database whose name begins so."""
        self._databases = databases

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if self.client and event.command_name == "find" and event.database_name.startswith(self._databases):
            self.client.admin.command("secantusAdmin.pruneTtl")

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        pass

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


_EXPIRY = Expiry()
monitoring.register(_EXPIRY)


@pytest.fixture
def expiry(endpoints: Endpoints) -> Iterator[Expiry]:
    """Nothing expires before it is said of which databases."""
    with MongoClient(endpoints.mongodb_admin_url) as _EXPIRY.client:
        _EXPIRY.before_reads_of("no database")
        yield _EXPIRY
    _EXPIRY.client = None
