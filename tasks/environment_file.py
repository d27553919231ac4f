"""Read the application's env file, the home of its secrets, as Node's dotenv reads it.

Python's dotenv reads ``#``, backslashes and backticks otherwise: it would find another password than the
application does.
"""

import re
from collections.abc import Iterator

from tasks.errors import AccessDeniedError, ConfigurationError
from tasks.records.service import ServiceProfile

# What JavaScript takes for white space, and for the end of a line.
_SPACE = "[\t\n\v\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]"
_BEGIN, _END = r"(?:\A|(?<=[\n\u2028\u2029]))", r"(?=[\n\u2028\u2029]|\Z)"
# What Node's dotenv takes for an assignment: a value in quotes of one kind, which may go over several lines
# and hold that quote after a backslash, or else the rest of the line up to a comment.
_IN_QUOTES = "|".join(rf"{_SPACE}*{quote}(?:\\{quote}|[^{quote}])*{quote}" for quote in "'\"`")
_ASSIGNMENT = re.compile(
    rf"{_BEGIN}{_SPACE}*(?:export{_SPACE}+)?(?P<name>[\w.-]+)"
    rf"(?P<sign>{_SPACE}*={_SPACE}*?|:{_SPACE}+?)"
    rf"(?P<value>{_IN_QUOTES}|[^#\n]+)?"
    rf"{_SPACE}*(?:\#[^\n\u2028\u2029]*)?{_END}",
    re.ASCII,
)
_WHOLE_IN_QUOTES = re.compile(rf"{_BEGIN}(?P<quote>['\"`])(?P<inside>.*)(?P=quote){_END}", re.DOTALL)
_AROUND = re.compile(rf"\A{_SPACE}+|{_SPACE}+\Z")


def parse(text: str) -> dict[str, str]:
    """Given an env file's text, return its variables; the last of two of one name counts."""
    return dict(list_assignments(text))


def list_assignments(text: str) -> list[tuple[str, str]]:
    """Given an env file's text, return every name and value in it, in order, repeated ones as well."""
    found = find_assignments(text.replace("\r\n", "\n").replace("\r", "\n"))
    return [(one["name"], _unquote(trim(one["value"] or ""))) for one in found]


def find_assignments(lines: str) -> Iterator[re.Match[str]]:
    """Given a text whose lines end as Unix's, yield its assignments: their name, sign and value or None."""
    return _ASSIGNMENT.finditer(lines)


def trim(value: str) -> str:
    """Return a value without what JavaScript takes for white space around it."""
    return _AROUND.sub("", value)


def _unquote(value: str) -> str:
    bare = _WHOLE_IN_QUOTES.sub(r"\g<inside>", value)
    return bare.replace("\\n", "\n").replace("\\r", "\r") if value.startswith('"') else bare


def read_variables(profile: ServiceProfile) -> dict[str, str]:
    """Given a service, return the variables of its env file; raise an error that names the file."""
    return parse(read_text(profile))


def read_text(profile: ServiceProfile) -> str:
    """Given a service, return its env file's text; raise an error that names the file."""
    return decode(profile, read_content(profile))


def decode(profile: ServiceProfile, content: bytes) -> str:
    """Given what is in the env file, return it as text, without a byte order mark."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(
            f"{profile.name}: the env file {profile.env_path} is not UTF-8 text."
        ) from None


def read_content(profile: ServiceProfile) -> bytes:
    """Given a service, return its env file's bytes; raise an error that names the file."""
    path = profile.env_path
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ConfigurationError(
            f"{profile.name}: the env file {path} does not exist: correct application.env_file in the "
            "profile, or restore the file."
        ) from None
    except (PermissionError, IsADirectoryError):
        raise AccessDeniedError(
            f"{profile.name}: the env file {path} cannot be read by the worker: let its user read it."
        ) from None
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
