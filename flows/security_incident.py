"""Runbook row I36: a suspected breach: shut the doors, find out, prove that it serves, write it all down."""

from datetime import datetime
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.decisions.incident import RUNBOOK, SERVING, TELLING, plan_incident
from flows.incident_containing import attempt, contain, settle
from flows.incident_investigating import prove_serving
from flows.incident_keeping import agree, begin, choose, write_down
from tasks.approval import remember_plan
from tasks.artifacts import publish_runbook_plan
from tasks.conclusion import failing_in_one_sentence
from tasks.handing_over import hand_over
from tasks.profiles import load_service
from tasks.records.credential_care import CredentialName
from tasks.run_context import observe_run


@flow(name=RUNBOOK, flow_run_name="{service}")
@failing_in_one_sentence
def security_incident(
    service: str,
    suspicion: str = "A breach is suspected.",
    credentials: list[CredentialName] | None = None,
    since: datetime | None = None,
    dry_run: bool = False,
) -> State[Any]:
    """Shut every door of a service at once, find out what happened, and leave a document that says it all.

    Trigger: by hand, when a credential leaked or somebody is where nobody should be.

    Preconditions: the profile's section credentials says what can be replaced. Nothing else need work: a step
    that fails keeps none of the others.

    Steps: go on with an incident whose run was killed, or open one; show the plan; tell people, the critical
    level first; wait for approval where the profile asks for it. Contain: keep what would be lost, as who is
    connected and when keys were used last; turn on more logging; replace every credential without grace, in
    the safe order, the tokens' secret last; end sessions in the database, where its rotation did not.
    Prove that the service is healthy, its users log in, and it is reached from outside. Investigate: refused
    logins and accesses by address, user and hour; new administrators; what credentials did; what our own
    runbooks did. Write the document: what people must do, every step and how it ended, every fact and where
    it is from, and what could not be seen.

    Rollback: a rotation that fails goes back by itself; one that is proven is not undone. What else was done
    is in the document, with how to undo it. A killed run is gone on with by the next one, for a day.

    Args:
        service: The service's name, as in its profile.
        suspicion: What is suspected, in a sentence or two; people are told it. Write no secret here.
        credentials: Which credentials are replaced; all that the profile has when left out.
        since: From when on it is looked at what happened; a day back when left out.
        dry_run: Show the plan and stop.
    """
    profile, run = load_service(service), observe_run()
    record = choose(profile, run, suspicion, credentials or [], since)
    plan = remember_plan(plan_incident(profile, record))
    publish_runbook_plan(plan)
    if dry_run:
        return Completed(message=f"{service}: dry run, the plan is shown and nothing was done.")
    log = begin(profile, run, plan, record)
    settle(profile, run)
    reason = f"A breach of {service} is suspected: {record.opening.suspicion} See {RUNBOOK}/{service}."
    attempt(log, TELLING, lambda: hand_over(profile, run, reason, "security incident", "critical"))
    agree(profile, run, plan, log)
    contain(profile, run, plan, log)
    attempt(log, SERVING, lambda: prove_serving(profile))
    report, document = write_down(profile, run, plan, log)
    return (Completed if report.well else Failed)(message=f"{report.headline} Document: {document}.")
