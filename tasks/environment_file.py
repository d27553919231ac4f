"""Read the application's env file, the home of its secrets, as Node's dotenv reads it."""

from dotenv import dotenv_values

from tasks.errors import AccessDeniedError, ConfigurationError
from tasks.records.service import ServiceProfile


def read_variables(profile: ServiceProfile) -> dict[str, str]:
    """Given a service, return the variables of its env file; raise an error that names the file."""
    path = profile.env_path
    try:
        with path.open(encoding="utf-8") as stream:
            values = dotenv_values(stream=stream, interpolate=False)
    except FileNotFoundError:
        raise ConfigurationError(
            f"{profile.name}: the env file {path} does not exist: correct application.env_file in the "
            "profile, or restore the file."
        ) from None
    except (PermissionError, IsADirectoryError):
        raise AccessDeniedError(
            f"{profile.name}: the env file {path} cannot be read by the worker: let its user read it."
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{profile.name}: the env file {path} is not UTF-8 text.") from None
    return {name: value for name, value in values.items() if value is not None}


def read_variable(profile: ServiceProfile, name: str) -> str:
    """Given a service and a variable's name, return its value; raise ``ConfigurationError`` if unset."""
    value = read_variables(profile).get(name)
    if not value:
        raise ConfigurationError(
            f"{profile.name}: {name} is not set in {profile.env_path}: set it, the application needs it too."
        )
    return value
