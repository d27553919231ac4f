"""Which rotator a credential has: the one place that knows all of them."""

from tasks.errors import ConfigurationError
from tasks.records.credential_care import CredentialName
from tasks.records.service import ServiceProfile
from tasks.rotator import Rotator
from tasks.rotator_jwt import JwtRotator


def open_rotator(profile: ServiceProfile, credential: CredentialName) -> Rotator:
    """Given a credential, return how it is rotated; raise ``ConfigurationError`` if no profile says so."""
    wanted = profile.credentials
    if credential == "jwt-secret" and wanted.jwt_secret is not None:
        return JwtRotator(profile, wanted.jwt_secret)
    field = credential.replace("-", "_")
    raise ConfigurationError(
        f"{profile.name}: the profile has no credentials.{field}: write there how it is rotated, see "
        "docs/reference/service-profile.md."
    )
