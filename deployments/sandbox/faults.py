"""Every fault that the sandbox can have: `make break FAULT=...`, `make mend`."""

from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from pymongo.errors import PyMongoError

from deployments.sandbox import faults_around as around
from deployments.sandbox import faults_database as database
from deployments.sandbox import faults_deployed as deployed
from deployments.sandbox import faults_process as process
from deployments.sandbox.breakage import APPLICATIONS, Breakage, require_running
from deployments.sandbox.errors import SandboxError
from deployments.sandbox.fault_journal import FaultJournal
from deployments.sandbox.stack import Sandbox

BOTH = tuple(APPLICATIONS)
INVOICE = ("invoice",)
PROPERTYPULSE = ("propertypulse",)


@dataclass(frozen=True)
class Fault:
    """A way to break an application; ``do`` returns when the harm is to be seen."""

    name: str
    what: str
    """What is wrong then, as a sentence."""
    do: Callable[[Breakage], None]
    services: tuple[str, ...] = BOTH


FAULTS = (
    Fault("healthy", "Nothing is wrong.", lambda _: None),
    Fault("process-stopped", "Somebody stopped the application.", process.stop),
    Fault("crash-loop", "It ends at each start, and PM2 starts it again for ever.", process.loop),
    Fault("process-errored", "It ends at each start, and PM2 gave it up.", process.give_up),
    Fault("hanging", "Its processes are suspended (SIGSTOP).", process.hang),
    Fault("busy-loop", "It computes in a loop without an end.", process.spin),
    Fault("cpu-saturated", "It computes nearly all the time, and answers much too late.", process.block),
    Fault("port-taken", "A stranger listens on its port.", process.take_port),
    Fault("port-left-behind", "An old process of its own hangs and keeps the port.", process.leave_behind),
    Fault("variable-missing", "The .env lacks a variable.", deployed.lose_variable),
    Fault("variable-malformed", "A value of the .env was cut short.", deployed.spoil_variable),
    Fault("syntax-error", "A file with a merge conflict was deployed.", deployed.deploy_conflict),
    Fault("dependency-missing", "A package that it needs is not installed.", deployed.forget_package),
    Fault("bad-permissions", "Its user may not read a file of the program.", deployed.close_file),
    Fault("database-down", "The database server is gone.", database.take_away),
    Fault("database-unreachable", "The URL leads to where nobody answers.", database.point_into_the_void),
    Fault("database-password", "The database has another password for it.", database.change_password),
    Fault("database-missing", "There is no database of that name.", database.lose_database),
    Fault("connection-limit", "A job holds all its connections.", database.take_connections, PROPERTYPULSE),
    Fault("database-locked", "A forgotten session holds a table.", database.lock, PROPERTYPULSE),
    Fault("disk-full", "The disk of its logs is full.", around.fill_disk),
    Fault("memory-exhausted", "Its heap is exhausted at each start.", process.exhaust_memory),
    Fault("memory-leak", "It leaks memory, and has more than it may.", process.leak),
    Fault("firebase-bad", "Google does not know the key of the .env.", deployed.change_firebase_key, INVOICE),
    Fault("jwt-missing", "The .env lacks JWT_SECRET.", deployed.lose_jwt_secret),
    Fault("jwt-changed", "The .env has another JWT_SECRET than it runs with.", deployed.change_jwt_secret),
    Fault(
        "jwt-changed-restarted",
        "It runs with another JWT_SECRET than before: everybody is logged out.",
        deployed.change_jwt_secret_and_restart,
    ),
    Fault("stripe-down", "Stripe answers 503.", around.take_stripe_down, PROPERTYPULSE),
    Fault("stripe-key-revoked", "Stripe refuses the key.", around.revoke_stripe_key, PROPERTYPULSE),
    Fault("sendgrid-down", "SendGrid answers 503.", around.take_sendgrid_down, PROPERTYPULSE),
    Fault("s3-down", "The object store is gone.", around.take_store_away, PROPERTYPULSE),
    Fault("certificate-expired", "The certificate ended yesterday.", around.let_certificate_end),
    Fault("clock-skew", "Its clock is a quarter of an hour ahead.", process.change_clock),
)


def break_fault(sandbox: Sandbox, name: str, service: str | None = None) -> str:
    """Break an application and return its service when the harm is to be seen; nothing if it is broken so.

    Raises:
        SandboxError: there is no such fault, the service cannot have it, it does no harm, something of the
            sandbox does not run, or an earlier attempt was left unfinished.
    """
    fault = find_fault(name)
    service = service or fault.services[0]
    if service not in fault.services:
        raise SandboxError(f"{name} is a fault of {' and '.join(fault.services)}, not of {service}.")
    journal = FaultJournal(sandbox.state)
    require_running(sandbox, journal)
    for entry in journal.read():
        if (entry["fault"], entry["service"]) == (name, service):
            # One that an older sandbox wrote says nothing of it.
            if entry.get("done", True):
                return service
            raise SandboxError(f"{name} of {service} was begun and is not wholly there: `make mend` first.")
    journal.begin(name, service)
    try:
        fault.do(Breakage(sandbox, service, journal))
    except (psycopg.Error, PyMongoError) as error:
        raise SandboxError(f"{name} of {service} failed in its database ({type(error).__name__}).") from error
    journal.finish()
    return service


def find_fault(name: str) -> Fault:
    """Return the fault of this name.

    Raises:
        SandboxError: there is none; says which there are.
    """
    for fault in FAULTS:
        if fault.name == name:
            return fault
    raise SandboxError(f"There is no fault {name}; there are {', '.join(fault.name for fault in FAULTS)}.")
