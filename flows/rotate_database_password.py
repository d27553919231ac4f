"""Runbook row P5: replace the password that the application logs in to its database with."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.rotating import rotate
from tasks.conclusion import failing_in_one_sentence
from tasks.profiles import load_service
from tasks.run_context import observe_run


@flow(name="rotate-database-password", flow_run_name="{service}")
@failing_in_one_sentence
def rotate_database_password(
    service: str, emergency: bool = False, dry_run: bool = False, finish: str = ""
) -> State[Any]:
    """Replace the password of a service's database user, and prove that the old one is refused.

    Trigger: by hand, when it is due or leaked; by security-incident; by itself when the grace is over.

    Preconditions: the profile has credentials.database_password; database.admin_url is of another user, who
    may change the password; the server keeps the password itself. With two users that take turns
    (credentials.database_password.alternate), both exist and may the same.

    Steps: finish or undo what a killed run left; look at the user and at what the admin may; show the plan;
    wait for approval where the profile asks for it; make a password of 256 random bits and keep it; give it
    to the user, or to the one whose turn it is (PostgreSQL gets a SCRAM verifier); by new connections compare
    what both may, read everything, and write what is rolled back; write it into every URL of the env file
    that had the old one; restart gracefully; log in; prove by fingerprints that every process has it. Then,
    or when the grace is over, end the sessions of the old one and prove that a new connection is refused.

    Rollback: until the new password is proven, any failure puts the old one in force again, at the server and
    in the env file, and restarts. A killed run is finished by the next one if the new password works by then.

    Args:
        service: The service's name, as in its profile.
        emergency: No grace: the old user's sessions end at once, and an earlier rotation's grace ends too.
        dry_run: Show the plan and stop.
        finish: The id of a rotation in grace: finish that, and begin no other. The runbook sets it itself.
    """
    return rotate(
        load_service(service),
        observe_run(),
        "database-password",
        emergency=emergency,
        dry_run=dry_run,
        finish=finish,
    )
