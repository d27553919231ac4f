"""A manifest's bytes to its record, and a sentence for everything that may be wrong with them."""

import hashlib
import json

from pydantic import ValidationError

from tasks.errors import DamagedSetError
from tasks.records.backup import FORMAT_VERSION, Manifest


def format_manifest(manifest: Manifest) -> bytes:
    """Return the documented form of a manifest."""
    return manifest.model_dump_json(indent=2).encode() + b"\n"


def hash_manifest(manifest: Manifest) -> str:
    """Return the SHA-256 (hex) of the bytes that are written for a manifest."""
    return hashlib.sha256(format_manifest(manifest)).hexdigest()


def parse_manifest(content: bytes, place: str, service: str, set_id: str) -> Manifest:
    """Given what lies at the place as that set's manifest, return it.

    Raise ``DamagedSetError`` if it is no manifest, is another set's, or a newer version wrote it.
    """
    version = _format_version(content)
    if version is not None and version > FORMAT_VERSION:
        raise DamagedSetError(
            f"{place} has format {version}, and this software reads up to {FORMAT_VERSION}: a newer version "
            "wrote it. Use that one."
        )
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise DamagedSetError(f"{place} is damaged: {first_fault(error)}.") from None
    if (manifest.service, manifest.set_id) != (service, set_id):
        raise DamagedSetError(
            f"{place} is of set {manifest.set_id} of {manifest.service}: it was copied to where it isn't due."
        )
    return manifest


def _format_version(content: bytes) -> int | None:
    try:
        parsed = json.loads(content)
    except ValueError:
        return None
    version = parsed.get("format_version") if isinstance(parsed, dict) else None
    return version if isinstance(version, int) else None


def first_fault(error: ValidationError) -> str:
    """Say what is wrong with the first field that is, without its value."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    field = ".".join(str(step) for step in faults[0]["loc"]) or "the whole"
    more = f" (and {len(faults) - 1} faults more)" if len(faults) > 1 else ""
    return f"{field}: {faults[0]['msg']}{more}"
