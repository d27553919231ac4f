"""Read the application's env file, the home of its secrets, as Node's dotenv reads it.

Python's dotenv reads ``#``, backslashes and backticks otherwise: it would find another password than the
application does.
"""

import re

from tasks.errors import AccessDeniedError, ConfigurationError
from tasks.records.service import ServiceProfile

# What Node's dotenv takes for an assignment: a value in quotes of one kind, which may go over several lines
# and hold that quote after a backslash, or else the rest of the line up to a comment.
_IN_QUOTES = "|".join(rf"\s*{quote}(?:\\{quote}|[^{quote}])*{quote}" for quote in "'\"`")
_ASSIGNMENT = re.compile(
    rf"""
    ^\s*(?:export\s+)?(?P<name>[\w.-]+)
    (?:\s*=\s*?|:\s+?)
    (?P<value>{_IN_QUOTES}|[^\#\r\n]+)?
    \s*(?:\#.*)?$
    """,
    re.MULTILINE | re.ASCII | re.VERBOSE,
)
_WHOLE_IN_QUOTES = re.compile(r"^(?P<quote>['\"`])(?P<inside>.*)(?P=quote)$", re.MULTILINE | re.DOTALL)


def parse(text: str) -> dict[str, str]:
    """Given an env file's text, return its variables; the last of two of one name counts."""
    return dict(list_assignments(text))


def list_assignments(text: str) -> list[tuple[str, str]]:
    """Given an env file's text, return every name and value in it, in order, repeated ones as well."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return [
        (found["name"], _unquote((found["value"] or "").strip())) for found in _ASSIGNMENT.finditer(lines)
    ]


def _unquote(value: str) -> str:
    bare = _WHOLE_IN_QUOTES.sub(r"\g<inside>", value)
    return bare.replace("\\n", "\n").replace("\\r", "\r") if value.startswith('"') else bare


def read_variables(profile: ServiceProfile) -> dict[str, str]:
    """Given a service, return the variables of its env file; raise an error that names the file."""
    return parse(read_text(profile))


def read_text(profile: ServiceProfile) -> str:
    """Given a service, return its env file's text; raise an error that names the file."""
    path = profile.env_path
    try:
        return path.read_text(encoding="utf-8-sig")
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
    except OSError as error:
        raise AccessDeniedError(
            f"{profile.name}: the env file {path} cannot be read ({error.strerror}): correct "
            "application.env_file in the profile, or restore the file."
        ) from None


def read_variable(profile: ServiceProfile, name: str) -> str:
    """Given a service and a variable's name, return its value; raise ``ConfigurationError`` if unset."""
    value = read_variables(profile).get(name)
    if not value:
        raise ConfigurationError(
            f"{profile.name}: {name} is not set in {profile.env_path}: set it, the application needs it too."
        )
    return value
