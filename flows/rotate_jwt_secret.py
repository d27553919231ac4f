"""Runbook row P4: replace the secret that the application signs its tokens with."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.rotating import rotate
from tasks.conclusion import failing_in_one_sentence
from tasks.profiles import load_service
from tasks.run_context import observe_run


@flow(name="rotate-jwt-secret", flow_run_name="{service}")
@failing_in_one_sentence
def rotate_jwt_secret(
    service: str, emergency: bool = False, dry_run: bool = False, finish: str = ""
) -> State[Any]:
    """Replace the secret that a service's tokens are signed with, and stop accepting the old one.

    Trigger: by hand, when it is due or leaked; by security-incident; by itself when the grace is over.

    Preconditions: the profile has credentials.jwt_secret; the application serves; its probe user can log in,
    or it tells fingerprints of its secrets.

    Steps: finish or undo what a killed run left; look at the secret; show the plan, with how many are logged
    in where they will be logged out; wait for approval where the profile asks for it; make 256 random bits
    and keep them; write them into the env file, the old secret beside them where the application reads it;
    restart gracefully; prove by tokens which secrets are accepted. When the longest token's life is over,
    take the old one out, restart, and prove that it is refused.

    Rollback: until the new secret is proven, any failure puts the old one back and restarts. A killed run is
    finished by the next one if the new secret was kept by then.

    Args:
        service: The service's name, as in its profile.
        emergency: No grace: everybody is logged out at once, and an earlier rotation's grace ends too.
        dry_run: Show the plan and stop.
        finish: The id of a rotation in grace: finish that, and begin no other. The runbook sets it itself.
    """
    return rotate(
        load_service(service),
        observe_run(),
        "jwt-secret",
        emergency=emergency,
        dry_run=dry_run,
        finish=finish,
    )
