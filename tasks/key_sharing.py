"""Who else uses an access key that is to be rotated: the backups of this host's services, and its admin."""

import os

from botocore.exceptions import BotoCoreError
from botocore.session import Session

from tasks.credentials import resolve
from tasks.errors import RunbookError
from tasks.profiles import list_services, load_service, services_folder
from tasks.records.credential_care import S3Credentials
from tasks.records.service import ServiceProfile


def find_other_user(profile: ServiceProfile, terms: S3Credentials, key_id: str) -> str | None:
    """Given a key's id, return in words what else on this host uses that key; None if nothing does.

    Raise ``RunbookError`` if a reference to what the service itself uses cannot be read.
    """
    if _names(terms.admin_key_id, key_id):
        return "the admin of credentials.s3"
    if _is_for_backups(profile, key_id):
        return "the backup's destination"
    for name in list_services(services_folder()):
        if name != profile.name and _is_for_backups_of(name, key_id):
            return f"the backup's destination of {name}"
    return None


def _is_for_backups_of(name: str, key_id: str) -> bool:
    """Look at another service, whose profile and references are its own affair."""
    try:
        return _is_for_backups(load_service.fn(name), key_id)
    except RunbookError:
        return False


def _is_for_backups(profile: ServiceProfile, key_id: str) -> bool:
    destination = profile.backup.destination
    return destination.url.startswith("s3:") and _names(destination.access_key_id, key_id)


def _names(reference: str | None, key_id: str) -> bool:
    """Tell whether a reference, or AWS's own chain where there is none, leads to this key."""
    return resolve(reference) == key_id if reference is not None else key_id in _keys_of_the_chain()


def _keys_of_the_chain() -> set[str | None]:
    """Return the ids that this host's environment and AWS's files name; a role's keys are nobody else's."""
    try:
        profiles = Session().full_config.get("profiles", {})
    except BotoCoreError:
        profiles = {}
    named = {profile.get("aws_access_key_id") for profile in profiles.values()}
    return {os.environ.get("AWS_ACCESS_KEY_ID"), *named}
