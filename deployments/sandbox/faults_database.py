"""Faults of the applications' databases."""

import socket
from urllib.parse import urlsplit

import httpx
import psycopg
from psycopg import sql

from deployments.sandbox import mongodb
from deployments.sandbox.applications import PROBE_EMAIL
from deployments.sandbox.breakage import Breakage
from deployments.sandbox.fault_helpers import URL
from deployments.sandbox.mending import AWAY, set_password, update_mongodb_user
from deployments.sandbox.ports import HOST
from deployments.sandbox.vault import plain_password

LOCKED_TABLE = "users"
CONNECTIONS = 3
_TERMINATE = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s AND pid <> ALL (%s)"
)


def take_away(broken: Breakage) -> None:
    """Take the server away."""
    part = broken.sandbox.mongodb if broken.is_invoice else broken.sandbox.postgresql
    broken.undo("start", part.name)
    part.kill()
    broken.wait_until_unhealthy()


def point_into_the_void(broken: Breakage) -> None:
    """Let its URL lead to a port where everything is accepted and nothing answered."""
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    broken.helper("black-hole", port)
    variable = "MONGODB_URI" if broken.is_invoice else "DATABASE_URL"
    url = broken.setting(variable)
    broken.set(variable, f'"{url.replace(f"{HOST}:{urlsplit(url).port}", f"{HOST}:{port}")}"')
    broken.restart()
    broken.wait_until_unhealthy()


def change_password(broken: Breakage) -> None:
    """Give the application's user another password, and tell nobody."""
    broken.undo("password")
    set_password(broken, plain_password())
    if broken.is_invoice:
        broken.restart()
        broken.wait_until_errored()
        return
    with psycopg.connect(broken.sandbox.postgresql.admin_url, autocommit=True) as admin:
        admin.execute(_TERMINATE, [broken.sandbox.postgresql.role, []])
    broken.wait_until_unhealthy()


def lose_database(broken: Breakage) -> None:
    """Let its URL name a database that is not there."""
    if broken.is_invoice:
        _name_another_database(broken)
        return
    name = broken.sandbox.postgresql.database
    broken.undo("database", name)
    with psycopg.connect(broken.sandbox.postgresql.admin_url, autocommit=True) as admin:
        old, new = sql.Identifier(name), sql.Identifier(name + AWAY)
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(old))
        admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        admin.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(old, new))
    broken.wait_until_unhealthy()


def _name_another_database(broken: Breakage) -> None:
    """MongoDB makes what is missing, so the application is well and knows nobody."""
    own: dict[str, str] = {"role": "readWrite", "db": mongodb.DATABASE}
    broken.undo("mongodb-user", mongodb.APPLICATION, {"roles": [own]})
    roles = [own, {**own, "db": mongodb.DATABASE + AWAY}]
    update_mongodb_user(broken, mongodb.APPLICATION, {"roles": roles})
    url = broken.setting("MONGODB_URI")
    broken.set("MONGODB_URI", f'"{url.replace(f"/{mongodb.DATABASE}?", f"/{mongodb.DATABASE}{AWAY}?")}"')
    broken.restart()
    broken.wait_until("a refused login", lambda: not _logs_in(broken))


def _logs_in(broken: Breakage) -> bool:
    url = broken.health_url.replace("/health", "/auth/login")
    password = broken.sandbox.applications.probe_password(broken.application)
    return httpx.post(url, json={"email": PROBE_EMAIL, "password": password}, timeout=10).is_success


def take_connections(broken: Breakage) -> None:
    """Let a job hold all connections that its role may have."""
    role = broken.sandbox.postgresql.role
    broken.undo("sql", f"ALTER ROLE {role} CONNECTION LIMIT -1")
    broken.helper("connections", CONNECTIONS, **{URL: broken.sandbox.endpoints.postgresql_url})
    with psycopg.connect(broken.sandbox.postgresql.admin_url, autocommit=True) as admin:
        admin.execute(f"ALTER ROLE {role} CONNECTION LIMIT {CONNECTIONS}".encode())
        rows = admin.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'leaking-job'")
        holders = [row[0] for row in rows.fetchall()]
        admin.execute(_TERMINATE, [role, holders])
    broken.wait_until_unhealthy()


def lock(broken: Breakage) -> None:
    """Let a forgotten session hold a table that every answer needs."""
    broken.helper("lock", LOCKED_TABLE, **{URL: broken.sandbox.endpoints.postgresql_url})
    broken.wait_until_unhealthy()
