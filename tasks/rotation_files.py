"""What a rotation keeps on its host, below ``<state_directory>/<service>/rotations/``, in private files.

``<credential>.pending`` and ``<credential>.previous`` hold the new and the old values until they are not
needed, and are wiped then. ``<credential>.json``, a rotation in grace, ``history.jsonl`` and
``first-seen.json``, the memory of the credential report, hold no secret.
"""

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from tasks.database_login import read_login
from tasks.environment_file import read_variables
from tasks.errors import ConfigurationError
from tasks.host_errors import naming_file
from tasks.host_folder import append_line, host_folder, sync_folder, whole_lines
from tasks.known_good import fingerprint
from tasks.records.credential_care import CredentialName
from tasks.records.rotation import Kept, OpenRotation, RotationEvent
from tasks.records.service import ServiceProfile

Which = Literal["pending", "previous"]
_HISTORY: Final = "history.jsonl"
_FIRST_SEEN: Final = "first-seen.json"


def keep(profile: ServiceProfile, credential: CredentialName, which: Which, kept: Kept) -> None:
    """Given values, keep them so that they are there after a power cut; raise ``StoreFullError`` if full."""
    content = {"rotation": kept.rotation, "variables": kept.variables, "facts": kept.facts}
    _write_private(_folder(profile) / f"{credential}.{which}", json.dumps(content).encode())


def read_kept(profile: ServiceProfile, credential: CredentialName, which: Which) -> Kept | None:
    """Given which values, return them, or None if they are not kept."""
    path = _folder(profile) / f"{credential}.{which}"
    try:
        found = json.loads(path.read_bytes())
        return Kept(found["rotation"], found["variables"], found["facts"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        # Not from the decoding error: it carries the content along.
        raise ConfigurationError(
            f"{path} is no file of ours: another version or a person wrote it; see whether the credential in "
            "the env file works, and move the file away."
        ) from None


def wipe(profile: ServiceProfile, credential: CredentialName, which: Which) -> None:
    """Overwrite and remove kept values; none there is no error."""
    path = _folder(profile) / f"{credential}.{which}"
    for left in (path, *path.parent.glob(f".{path.name}.*")):
        wipe_file(left)


def wipe_file(path: Path) -> None:
    """Overwrite a file's content, remove it, and make that survive a power cut; none there is no error.

    A file system that writes elsewhere, as those with snapshots do, keeps the old blocks for a while.
    """
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            file.write(secrets.token_bytes(max(1, os.fstat(file.fileno()).st_size)))
            os.fsync(file.fileno())
        path.unlink()
        sync_folder(path.parent)


def save_open(profile: ServiceProfile, rotation: OpenRotation) -> None:
    """Given a rotation in grace, keep how far it is."""
    path = _folder(profile) / f"{rotation.credential}.json"
    _write_private(path, rotation.model_dump_json().encode())


def read_open(profile: ServiceProfile, credential: CredentialName) -> OpenRotation | None:
    """Given a credential, return its rotation that is in grace, or None."""
    path = _folder(profile) / f"{credential}.json"
    try:
        return OpenRotation.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise ConfigurationError(
            f"{path} is no rotation of ours: see which of the provider's credentials is the old one, retire "
            "it by hand, and move the file away."
        ) from None


def forget_open(profile: ServiceProfile, credential: CredentialName) -> None:
    """Given a credential whose old one is retired, end its grace."""
    path = _folder(profile) / f"{credential}.json"
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def recall_in_force(profile: ServiceProfile, rotation: OpenRotation, names: Mapping[str, object]) -> Kept:
    """Given a rotation in grace, return what is in force: the env file is the home of its values."""
    variables = read_variables(profile)
    return Kept(rotation.rotation, {name: variables.get(name) for name in names}, rotation.facts)


def record_rotation(  # noqa: PLR0913, PLR0917  what happened to which credential, when, by whom
    profile: ServiceProfile,
    credential: CredentialName,
    rotation: str,
    event: Literal["rotated", "retired", "undone"],
    by: str,
    at: datetime,
) -> None:
    """Given what was done to a credential, write it down; the same event of a rotation is written once."""
    done = {(found.rotation, found.event) for found in read_history(profile)}
    if (rotation, event) not in done:
        value = read_secret(profile, credential, read_variables(profile))
        seen = fingerprint(profile, credential, value)
        line = RotationEvent(
            at=at, credential=credential, rotation=rotation, event=event, by=by, fingerprint=seen
        )
        append_line(_folder(profile) / _HISTORY, line.model_dump_json().encode())


def find_variable(profile: ServiceProfile, credential: CredentialName) -> str:
    """Given a credential, return the variable of the env file that holds its secret part."""
    care = profile.credentials
    holding: dict[CredentialName, str] = {
        "database-password": profile.database.url_variable,
        "jwt-secret": profile.application.jwt_secret_variable,
        "s3": care.s3.secret_variable if care.s3 else "",
        "sendgrid-key": care.sendgrid_key.variable if care.sendgrid_key else "",
        "stripe-key": care.stripe_key.variable if care.stripe_key else "",
        "stripe-webhook-secret": care.stripe_webhook_secret.variable if care.stripe_webhook_secret else "",
    }
    return holding[credential]


def read_secret(profile: ServiceProfile, credential: CredentialName, variables: Mapping[str, str]) -> str:
    """Given a credential and an env file, return what is new when it was rotated; empty where it is not set.

    Of a database's URL that is its login: another parameter makes no new password.
    """
    value = variables.get(find_variable(profile, credential), "")
    login = read_login(value) if credential == "database-password" else None
    return value if login is None else f"{login.user}:{login.password}"


def read_history(profile: ServiceProfile) -> tuple[RotationEvent, ...]:
    """Given a service, return what was done to its credentials on this host, oldest first."""
    path = _folder(profile) / _HISTORY
    try:
        lines = whole_lines(path.read_bytes()).splitlines()
        return tuple(RotationEvent.model_validate_json(line) for line in lines)
    except FileNotFoundError:
        return ()
    except ValidationError:
        raise ConfigurationError(f"{path} is no history of ours: move it away, a new one is begun.") from None


def read_first_seen(profile: ServiceProfile) -> bytes | None:
    """Given a service, return what the credential report remembers of it, or None."""
    try:
        return (_folder(profile) / _FIRST_SEEN).read_bytes()
    except FileNotFoundError:
        return None


def write_first_seen(profile: ServiceProfile, content: bytes) -> None:
    """Given what the credential report remembers, keep it; raise ``StoreFullError`` if there is no room."""
    _write_private(_folder(profile) / _FIRST_SEEN, content)


def _folder(profile: ServiceProfile) -> Path:
    folder = host_folder(profile) / "rotations"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _write_private(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with naming_file(path):
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except OSError:
            wipe_file(unfinished)
            raise
        sync_folder(path.parent)
