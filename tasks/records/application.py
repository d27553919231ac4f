"""What a service profile says of the Node.js application: where it is, what runs it, how it is probed."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tasks.records.section import HostPath, Reference, Section, WebAddress


def _compilable(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"'{pattern}' is no regular expression: {error}") from None
    return pattern


Pattern = Annotated[str, AfterValidator(_compilable)]


class Login(Section):
    """A login that proves the service works for its users; the user exists for nothing else."""

    url: WebAddress = Field(
        description="Takes the login as a JSON body and answers 200 with a token",
        examples=["http://127.0.0.1:8080/auth/login"],
    )
    user: str = Field(min_length=1, description="The probe user", examples=["probe@example.com"])
    password: Reference = Field(
        description="Reference to the probe user's password",
        examples=["file:/etc/runbooks/invoice/probe-password"],
    )
    user_field: str = Field(default="email", description="The body's field for the user", examples=["email"])
    password_field: str = Field(
        default="password", description="The body's field for the password", examples=["password"]
    )
    user_source: str = Field(
        default="users",
        min_length=1,
        description="The collection or table of the users, with a field of the same name as the body's",
        examples=["users"],
    )


class Unit(Section):
    """The systemd unit that runs the application, where install-service-unit may write it."""

    user: str = Field(min_length=1, description="Whom the application runs as", examples=["www-data"])
    node: HostPath = Field(
        default=Path("/usr/bin/node"), description="Node.js, in full", examples=["/usr/bin/node"]
    )
    directory: HostPath = Field(
        default=Path("/etc/systemd/system"),
        description="Where the host's own units are",
        examples=["/etc/systemd/system"],
    )


class Application(Section):
    """The Node.js application as its host sees it."""

    directory: HostPath = Field(
        description="Where the application's files are", examples=["/srv/invoice/backend"]
    )
    env_file: Path = Field(
        default=Path(".env"),
        description="The home of the application's secrets, relative to the directory",
        examples=[".env"],
    )
    health_url: WebAddress = Field(
        description="Answers 200 and a JSON body with status OK when the service is healthy",
        examples=["http://127.0.0.1:8080/health"],
    )
    process_manager: Literal["pm2", "systemd", "windows"] = Field(
        description="What keeps the application running", examples=["pm2"]
    )
    process_name: str = Field(min_length=1, description="Its name there", examples=["invoice-backend"])
    process_manager_program: Path | None = Field(
        default=None,
        description="The process manager's command when it is not on PATH",
        examples=["/usr/local/bin/pm2"],
    )
    start_within: timedelta = Field(
        default=timedelta(seconds=60),
        description="So long after a start it must be healthy (ISO 8601 duration)",
        examples=["PT60S"],
    )
    unit: Unit | None = Field(default=None, description="Its systemd unit, where we may write it")
    public_url: WebAddress | None = Field(
        default=None,
        description="The health URL as users reach it, through proxy and certificate",
        examples=["https://invoice.example.com/health"],
    )
    entry_file: Path = Field(
        default=Path("server.js"),
        description="What the process manager starts, relative to the directory",
        examples=["src/server.js"],
    )
    started_line: str = Field(
        default="Server running on port",
        min_length=1,
        description="What the application's log says when a start is complete",
        examples=["Server running on port"],
    )
    port_variable: str = Field(
        default="PORT", min_length=1, description="The variable that holds its port", examples=["PORT"]
    )
    jwt_secret_variable: str = Field(
        default="JWT_SECRET",
        min_length=1,
        description="The variable that holds the secret its tokens are signed with",
        examples=["JWT_SECRET"],
    )
    login: Login | None = Field(default=None, description="A login that proves more than health does")
    fingerprints_url: WebAddress | None = Field(
        default=None,
        description="Answers which secrets the answering process runs with, as keyed fingerprints",
        examples=["http://127.0.0.1:8080/internal/fingerprints"],
    )
    install_command: tuple[str, ...] = Field(
        default=(),
        description="Installs the dependencies, in the application's directory, without a shell",
        examples=[["npm", "ci", "--omit=dev"]],
    )
    migrate_command: tuple[str, ...] = Field(
        default=(),
        description="Brings the database's schema up to the application's, likewise",
        examples=[["npx", "prisma", "migrate", "deploy"]],
    )
    log_files: tuple[Path, ...] = Field(
        default=(),
        description="Log files, relative to the directory",
        examples=[["logs/error.log"]],
    )
    required_variables: tuple[str, ...] = Field(
        default=(),
        description="Variables without which the application does not start",
        examples=[["MONGODB_URI", "JWT_SECRET"]],
    )
    variable_forms: dict[str, Pattern] = Field(
        default={},
        description="What the whole value of a variable must look like: a regular expression each",
        examples=[{"STRIPE_WEBHOOK_SECRET": "whsec_.+"}],
    )
    exclude_from_backup: tuple[str, ...] = Field(
        default=("node_modules", ".git", "*.log"),
        description="Names (shell patterns) left out of the application's archive, at any depth",
        examples=[["node_modules", ".git", "*.log"]],
    )
