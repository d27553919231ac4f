"""Runbook row P7b: replace the key that the application sends mail with."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.rotating import rotate
from tasks.conclusion import failing_in_one_sentence
from tasks.profiles import load_service
from tasks.run_context import observe_run


@flow(name="rotate-sendgrid-key", flow_run_name="{service}")
@failing_in_one_sentence
def rotate_sendgrid_key(
    service: str, emergency: bool = False, dry_run: bool = False, finish: str = ""
) -> State[Any]:
    """Replace the SendGrid key of a service by one with the same scopes, and delete the old one.

    Trigger: by hand, when it is due or leaked; by security-incident; by itself when the grace is over.

    Preconditions: the profile has credentials.sendgrid_key, whose manager key has the scopes api_keys.* and
    every scope that the application's key has; the escalation sends with a key of its own; SendGrid has fewer
    than 100 keys.

    Steps: finish or undo what a killed run left; look at the key and its scopes; show the plan; wait for
    approval where the profile asks for it; make a key whose name carries the rotation's id, and keep it; read
    its scopes with it, and send a mail in sandbox mode, which is never delivered; write it into the env file;
    restart gracefully; prove that every process has it. When the grace is over, delete the old key by its id
    and prove that it is refused.

    Rollback: until the new key is proven, any failure puts the old one back and deletes the new one. A killed
    run is finished by the next one if the new key was kept by then; if not, it deletes what was made.

    Args:
        service: The service's name, as in its profile.
        emergency: No grace: the old key is deleted at once, and an earlier rotation's grace ends too.
        dry_run: Show the plan and stop.
        finish: The id of a rotation in grace: finish that, and begin no other. The runbook sets it itself.
    """
    return rotate(
        load_service(service),
        observe_run(),
        "sendgrid-key",
        emergency=emergency,
        dry_run=dry_run,
        finish=finish,
    )
