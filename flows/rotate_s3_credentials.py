"""Runbook row P6: replace the access key that the application uses its bucket with."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.rotating import rotate
from tasks.conclusion import failing_in_one_sentence
from tasks.profiles import load_service
from tasks.run_context import observe_run


@flow(name="rotate-s3-credentials", flow_run_name="{service}")
@failing_in_one_sentence
def rotate_s3_credentials(
    service: str, emergency: bool = False, dry_run: bool = False, finish: str = ""
) -> State[Any]:
    """Replace the key of the application's IAM user, and end the old one when nobody uses it any more.

    Trigger: by hand, when it is due or leaked; by security-incident; by itself when a grace is over.

    Preconditions: the profile has credentials.s3; the user has one key; the operator's key may list, make,
    change and delete the user's keys and read their last use; the application serves.

    Steps: finish or undo what a killed run left; list the user's keys; show the plan; wait for approval where
    the profile asks for it; make a second key and keep it; wait until S3 knows it; put, get, delete and
    presign an object with it; write it into the env file; restart gracefully; prove by fingerprints that
    every process has it. When the old one was not used for the grace, make it inactive and prove that it is
    refused; after the soak delete it.

    Rollback: until the new key is proven, any failure puts the old one back, restarts, and deletes the new
    one. An inactive key can be made active again until the soak is over. A key that is not ours is never
    deleted.

    Args:
        service: The service's name, as in its profile.
        emergency: No grace and no soak: the old key is deleted at once, whoever uses it.
        dry_run: Show the plan and stop.
        finish: The id of a rotation in grace: finish that, and begin no other. The runbook sets it itself.
    """
    return rotate(
        load_service(service), observe_run(), "s3", emergency=emergency, dry_run=dry_run, finish=finish
    )
