"""MongoDB's part of a database password's rotation, through ``updateUser``.

The driver and the server both leave a password out of their logs; whoever listens on the wire does not, so
the administrator's URL has to ask for TLS wherever that is not this host.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from tasks.credentials import resolve
from tasks.database_login import make_password, read_login
from tasks.environment_file import read_variable
from tasks.errors import AccessDeniedError
from tasks.mongodb import Client, connect, database_of, host_of
from tasks.mongodb_permissions import exercise_permissions, list_readable
from tasks.mongodb_termination import User, read_user
from tasks.records.service import ServiceProfile

Document = Mapping[str, Any]

_EXTERNAL: Final = "$external"
_ANY: Final = ""
_OUR_NAME: Final = "runbooks"
# What is done to the whole cluster, and the way out where it is not allowed.
_SEEING: Final = {"inprog": "see who is connected: grant it clusterMonitor"}
_ENDING: Final = {"killAnySession": "end the sessions of others: grant it hostManager"}


class MongodbUsers:
    """The users of a MongoDB server, in the database that the application's URL authenticates in."""

    in_which_form: Final = ""
    # A mongos forgets what it knows of users every 30 s.
    settled_within: Final = 45.0
    tells_sessions_apart: Final = False

    def __init__(self, profile: ServiceProfile) -> None:
        """Given a service, read its URL; raise ``ConfigurationError`` if there is none that is one."""
        self._profile = profile
        self._url = read_variable(profile, profile.database.url_variable)
        self.place = f"MongoDB database {database_of(self._url)} at {host_of(self._url)}"

    @property
    def _source(self) -> str:
        return read_user(self._url).source

    def refuse(self, user: str, following: str | None) -> str | None:
        """Return why the user's password cannot be rotated, and the way out; None if it can."""
        if self._source == _EXTERNAL:
            return (
                f"{user} is of {_EXTERNAL}, so a certificate, LDAP, Kerberos or a cloud's IAM lets it in: "
                "rotate it there."
            )
        # A dead password reads nothing, and the new one's test comes before it is promoted.
        if self.accepts(self._url) and not self._list_readable():
            return (
                f"{user} may read nothing in {self.place}, so nothing could prove a new password: grant it."
            )
        admin_url = resolve(self._profile.database.admin_url)
        admin = read_login(admin_url)
        if admin is None:
            return "database.admin_url holds no user and password: name one that may change passwords."
        if admin.user in {user, following} and read_user(admin_url).source == self._source:
            return (
                f"database.admin_url logs in as {admin.user} itself, and would lock the runbooks out: give "
                "them a user of their own that may change its password."
            )
        with connect(admin_url) as client:
            return self._refuse_users(client, admin.user, user, following)

    def warn(self, user: str) -> tuple[str, ...]:
        """Return nothing: a user of MongoDB has no date."""
        del user
        return ()

    def set_password(self, user: str, password: str) -> None:
        """Give the user this password; its roles stay, and no mechanism is added to those that it has."""
        with connect(resolve(self._profile.database.admin_url)) as client:
            known = (self._find(client, user) or {}).get("mechanisms")
            kept = {"mechanisms": known} if known else {}
            client[self._source].command("updateUser", user, pwd=password, **kept)

    def end_password(self, user: str) -> None:
        """Give the user a password that nobody knows: MongoDB has no user without one."""
        self.set_password(user, make_password())

    def accepts(self, url: str) -> bool:
        """Return whether a new connection gets in and is answered."""
        try:
            with connect(url):
                return True
        except AccessDeniedError:
            return False

    def exercise(self, url: str, previous: str | None) -> None:
        """Read all that the user may, write what is aborted; raise if it may less than the previous one."""
        alive = previous is not None and self.accepts(previous)
        exercise_permissions(url, previous if alive else None)

    def list_sessions(self, user: str) -> tuple[str, ...]:
        """Return where the user's connections come from, those that do nothing too."""
        of = User(user, self._source)
        with connect(resolve(self._profile.database.admin_url)) as client:
            found = client.admin.command({"currentOp": 1, "$all": True})["inprog"]
        ours = [op for op in found if of.is_who_does(op) and _name_application(op) != _OUR_NAME]
        return tuple(sorted(_say_client(op) for op in ours if op.get("client")))

    def end_sessions(self, user: str, older_than: timedelta | None) -> None:
        """End what the user's logical sessions do; a connection stays until its client closes it."""
        del older_than
        with connect(resolve(self._profile.database.admin_url)) as client:
            client.admin.command("killAllSessions", [{"user": user, "db": self._source}])

    def _refuse_users(self, client: Client, admin: str, user: str, following: str | None) -> str | None:
        terms = self._profile.credentials.database_password
        is_ending = following is not None and terms is not None and terms.end_sessions
        if lack := _find_lack(client, self._source, _SEEING | (_ENDING if is_ending else {})):
            return f"{admin}, whom database.admin_url names, may not {lack}."
        found = {name: self._find(client, name) for name in filter(None, [user, following])}
        for name, one in found.items():
            if one is None:
                where = self._where_named(name)
                return f"{self.place} has no user {name} in {self._source}: create it, or correct {where}."
        if following is None:
            return None
        if lacks := _granted(found[user]) - _granted(found[following]):
            return (
                f"{following} may less than {user} in {self.place}, without {', '.join(sorted(lacks)[:3])}: "
                "grant it the same roles."
            )
        return None

    def _list_readable(self) -> set[str]:
        with connect(self._url) as client:
            return list_readable(client, database_of(self._url))

    def _find(self, client: Client, user: str) -> Document | None:
        """Return what the server says of a user, with each of its privileges where it tells them."""
        asked = {"usersInfo": {"user": user, "db": self._source}, "showPrivileges": True}
        users = client[self._source].command(asked)["users"]
        return users[0] if users else None

    def _where_named(self, user: str) -> str:
        if user == read_user(self._url).name:
            return f"{self._profile.database.url_variable} or database.admin_url"
        return "credentials.database_password.alternate"


def _granted(user: Document | None) -> set[str]:
    """Return in words what a user may, or its roles where the server does not tell its privileges."""
    found = user or {}
    privileges = found.get("inheritedPrivileges") or []
    if privileges:
        return {
            f"{action} on {_say_resource(one['resource'])}" for one in privileges for action in one["actions"]
        }
    return {f"the role {role['role']} of {role['db']}" for role in found.get("roles", [])}


def _say_resource(resource: Document) -> str:
    if "db" not in resource:
        return next(iter(resource), "anything")
    return f"{resource['db'] or 'any database'}.{resource['collection'] or '*'}"


def _find_lack(client: Client, source: str, wanted: Mapping[str, str]) -> str | None:
    """Return in words what who asks may not, and what to grant; None also if the server does not tell."""
    told = client.admin.command({"connectionStatus": 1, "showPrivileges": True})["authInfo"]
    privileges = told.get("authenticatedUserPrivileges") or []
    if not privileges:
        return None
    if not any("changePassword" in one["actions"] and _covers(one["resource"], source) for one in privileges):
        return f"change passwords in the database {source}: grant it userAdmin there"
    on_cluster = {action for one in privileges if _covers(one["resource"], None) for action in one["actions"]}
    return next((grant for action, grant in wanted.items() if action not in on_cluster), None)


def _covers(resource: Document, database: str | None) -> bool:
    """Tell whether a privilege is on a whole database, or on the cluster if none is named."""
    if resource.get("anyResource") or (database is None and resource.get("cluster")):
        return True
    return database is not None and resource.get("db") in {database, _ANY} and not resource.get("collection")


def _name_application(op: Document) -> str:
    told = (op.get("clientMetadata") or {}).get("application") or {}
    return str(op.get("appName") or told.get("name") or "")


def _say_client(op: Document) -> str:
    host, name = str(op["client"]).rpartition(":")[0], _name_application(op)
    return f"{host} ({name})" if name else host
