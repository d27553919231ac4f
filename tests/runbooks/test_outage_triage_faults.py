"""Every fault that the sandbox can have is diagnosed first-ranked, in words that name the culprit.

The faults are real: processes that end, files that were deployed, servers that are gone. What is observed and
decided is what the flow observes and decides; ``test_outage_triage.py`` has the flow itself.
"""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

import pytest

from deployments.sandbox.applications import INVOICE, PROPERTYPULSE
from deployments.sandbox.errors import SandboxError
from deployments.sandbox.faults import FAULTS, break_fault
from deployments.sandbox.mending import mend
from deployments.sandbox.stack import Sandbox
from flows.decisions.diagnosis import diagnose
from flows.decisions.evidence_assembly import assemble
from tasks.diagnosis_rendering import render_diagnosis
from tasks.environment_file import parse
from tasks.known_good import remember_healthy
from tasks.observing import PARTS, observe_part
from tasks.profiles import read_profile
from tasks.records.diagnosis import Diagnosis
from tasks.records.service import ServiceProfile

# By fault: the cause that must rank first, and what its title must say.
EXPECTED = {
    "process-stopped": ("process stopped", r"{application} is stopped"),
    "crash-loop": ("crash loop", r"{application} ends soon after each start"),
    "process-errored": ("process errored", r"{application} ended soon after each start"),
    "hanging": ("hanging", r"{application} is suspended by a signal"),
    "busy-loop": ("hanging", r"{application} hangs: it computes without an end"),
    "cpu-saturated": ("cpu saturated", r"{application} itself keeps its core busy"),
    "port-taken": ("port taken", r"Port {port} is taken by python[\w.]* \(process \d+\)"),
    "port-left-behind": ("port kept by its own old process", r"Port {port} is kept .*\(\d+\)"),
    "variable-missing": ("missing variable", r"^(EMAIL_FOR_OTP|STRIPE_WEBHOOK_SECRET) is missing"),
    "variable-malformed": ("malformed variable", r"^(ENCRYPTION_KEY|STRIPE_SECRET_KEY) "),
    "syntax-error": ("syntax error", r"routes/(audit|payments)\.js"),
    "dependency-missing": ("missing dependency", r"helmet"),
    "bad-permissions": ("bad file permissions", r"routes/(audit|payments)\.js"),
    "database-down": ("database down", r"127\.0\.0\.1:{database}"),
    "database-unreachable": ("database unreachable", r"127\.0\.0\.1:\d+"),
    "database-password": ("database password refused", r"(MONGODB_URI|DATABASE_URL)"),
    "database-missing": ("database missing", r"(invoice_away|propertypulse)"),
    "connection-limit": ("database connections exhausted", r"no connection left"),
    "database-locked": ("database locked", r"forgotten-migration|propertypulse_app"),
    "disk-full": ("disk full", r"{application}"),
    "memory-exhausted": ("memory leak", r"{application} ran out of memory"),
    "memory-leak": ("memory leak", r"{application} takes more memory"),
    "firebase-bad": ("firebase credentials bad", r"Firebase|Google"),
    "jwt-missing": ("jwt secret missing", r"JWT_SECRET"),
    "jwt-changed": ("jwt secret changed", r"JWT_SECRET"),
    "jwt-changed-restarted": ("jwt secret changed", r"JWT_SECRET"),
    "stripe-down": ("upstream down", r"Stripe"),
    "stripe-key-revoked": ("upstream refuses the key", r"Stripe"),
    "sendgrid-down": ("upstream down", r"SendGrid"),
    "s3-down": ("upstream down", r"S3"),
    "certificate-expired": ("certificate expired", r"localhost"),
    "clock-skew": ("clock skew", r"application"),
}
# Who computes without end where many others want a core gets none: that is then seen, and no more.
# A suite of tests is such a crowd now and then: another look falls into another moment of it.
OF_CPU, LOOKS = {"busy-loop", "cpu-saturated"}, 3
_CROWD = 2.5
CROWDED = ("cpu saturated", r"The CPU is saturated|{application} itself keeps its core busy")
# Where the service makes a difference: each process manager's mode, each database, each manner to fail.
ON_BOTH = {"hanging", "database-down", "database-unreachable", "database-password", "database-missing"}
CASES = [
    (fault.name, service)
    for fault in FAULTS
    if fault.name != "healthy"
    for service in (fault.services if fault.name in ON_BOTH else fault.services[:1])
]
PAIRS = [
    ("propertypulse", "database-down", "stripe-down"),
    ("propertypulse", "database-locked", "certificate-expired"),
    ("invoice", "variable-missing", "database-down"),
    ("invoice", "syntax-error", "disk-full"),
]


@pytest.fixture(scope="module", autouse=True)
def known_to_be_healthy(sandbox: Sandbox, invoice: ServiceProfile, propertypulse: ServiceProfile) -> None:
    """What a health check leaves behind on any day on which all was well."""
    for profile in (invoice, propertypulse):
        remember_healthy.fn(profile, datetime.now(UTC))


@pytest.fixture
def mended(sandbox: Sandbox) -> Iterator[Sandbox]:
    """The sandbox, mended afterwards."""
    try:
        yield sandbox
    finally:
        mend(sandbox)


def break_or_skip(sandbox: Sandbox, fault: str, service: str) -> None:
    try:
        break_fault(sandbox, fault, service)
    except SandboxError as error:
        if "Only a user who may mount" in str(error):
            pytest.skip(str(error))
        raise


def triage(sandbox: Sandbox, service: str) -> Diagnosis:
    profile = read_profile(sandbox.state / "services" / f"{service}.yaml")
    now = datetime.now(UTC)
    with ThreadPoolExecutor(len(PARTS)) as pool:
        seen = dict(
            zip(PARTS, pool.map(lambda part: observe_part.fn(part, profile, now), PARTS), strict=True)
        )
    diagnosis = diagnose(assemble(profile, now, seen, 6), profile)
    page = render_diagnosis(diagnosis, profile.zone, dry_run=False)
    assert_no_secret(sandbox, page + repr(diagnosis) + repr(seen))
    return diagnosis


def assert_no_secret(sandbox: Sandbox, text: str) -> None:
    secrets = {path.name: path.read_text() for path in sandbox.vault.folder.iterdir()}
    for application in (INVOICE, PROPERTYPULSE):
        variables = parse(sandbox.applications.environment_file(application).read_text())
        secrets |= {name: value for name, value in variables.items() if _is_secret(name)}
        for name in ("MONGODB_URI", "DATABASE_URL"):
            password = urlsplit(variables.get(name, "")).password
            if password:
                secrets |= {f"{name}'s password": password, f"{name}'s password, read": unquote(password)}
    assert [name for name, value in secrets.items() if len(value) >= 8 and value in text] == []


def _is_secret(name: str) -> bool:
    return re.search("SECRET|PASSWORD|KEY|URI|URL", name) is not None and name != "AWS_ENDPOINT_URL"


def explain(diagnosis: Diagnosis) -> str:
    ranked = [f"{cause.name} ({cause.certainty}): {cause.title}" for cause in diagnosis.causes]
    followed = [f"{cause.name} <- {cause.explained_by}" for cause in diagnosis.consequences]
    return "\n".join([diagnosis.verdict, *ranked, *followed, *diagnosis.unobserved])


@pytest.mark.parametrize(("fault", "service"), CASES)
def test_a_fault_is_the_first_cause_and_is_named(mended: Sandbox, fault: str, service: str) -> None:
    break_or_skip(mended, fault, service)
    looks = LOOKS if fault in OF_CPU else 1
    found = triage(mended, service)
    while not is_first(found, EXPECTED[fault], mended, service) and (looks := looks - 1):
        found = triage(mended, service)
    if fault in OF_CPU and os.getloadavg()[0] > _CROWD * (os.cpu_count() or 1):
        allowed = [EXPECTED[fault], CROWDED]
    else:
        allowed = [EXPECTED[fault]]
    assert any(is_first(found, one, mended, service) for one in allowed), explain(found)


def is_first(found: Diagnosis, expected: tuple[str, str], sandbox: Sandbox, service: str) -> bool:
    ports = sandbox.ports
    places = {
        "application": {"invoice": INVOICE, "propertypulse": PROPERTYPULSE}[service],
        "port": getattr(ports, service),
        "database": ports.mongodb if service == "invoice" else ports.postgresql,
    }
    name, title = expected
    first = found.causes[0] if found.causes else None
    return first is not None and first.name == name and bool(re.search(title.format(**places), first.title))


@pytest.mark.parametrize(("service", "one", "other"), PAIRS)
def test_two_faults_at_once_are_both_named(mended: Sandbox, service: str, one: str, other: str) -> None:
    for fault in (one, other):
        break_or_skip(mended, fault, service)
    found = triage(mended, service)
    named = {cause.name for cause in found.causes}
    assert {EXPECTED[one][0], EXPECTED[other][0]} <= named, explain(found)


@pytest.mark.parametrize("service", ["invoice", "propertypulse"])
def test_a_service_that_was_mended_has_no_cause(sandbox: Sandbox, service: str) -> None:
    found = triage(sandbox, service)
    assert (found.verdict, found.causes) == ("healthy", ()), explain(found)
