"""The application's users in MongoDB, by the application's own connection."""

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import pymongo
from bson import ObjectId
from pymongo.database import Database

from tasks import mongodb
from tasks.errors import ConfigurationError
from tasks.records.accounts import Account
from tasks.records.user_care import UserCare, UserSessions

Document = dict[str, Any]
SECONDS: Final = 10.0


class MongodbUsers:
    """The collection of users that a profile names."""

    def __init__(self, url: str, care: UserCare) -> None:
        """Take the application's URL and what the profile says of its users."""
        self._url, self._care = url, care

    def list_admins(self) -> tuple[Account, ...]:
        """Return everybody with an administrator's role, active or not, by e-mail address."""
        return self._find({self._care.role_field: {"$in": list(self._care.admin_roles)}})

    def find(self, email: str) -> tuple[tuple[Account, ...], str | None]:
        """Given an address, return who has exactly it, and else the first one that differs in capitals."""
        exact = self._find({self._care.email_field: email})
        if exact:
            return exact, None
        alike = self._find({self._care.email_field: {"$regex": f"^{re.escape(email)}$", "$options": "i"}})
        return (), alike[0].email if alike else None

    def set_active(self, email: str, *, active: bool) -> None:
        """Given the one user with this address, let the application let them in, or not.

        Raise ``ConfigurationError`` if it is not exactly one: then nothing is changed.
        """
        care = self._care
        with open_application(self._url) as database:
            users = database[care.source]
            found = [one["_id"] for one in users.find({care.email_field: email}, {"_id": True}).limit(2)]
            if len(found) != 1:
                many = "more than one document" if found else "no document"
                raise ConfigurationError(
                    f"{many.capitalize()} of {care.source} has that e-mail address: nothing was changed."
                )
            users.update_one(
                {"_id": found[0], care.email_field: email}, {"$set": {care.active_field: active}}
            )

    def count_sessions(self, email: str) -> int | None:
        """Return how many sessions the user has; None where the profile names no place of them."""
        if self._care.sessions is None:
            return None
        with open_application(self._url) as database:
            sessions = self._care.sessions
            return database[sessions.source].count_documents(self._of_user(database, sessions, email))

    def end_sessions(self, email: str) -> int:
        """Delete the user's sessions and return how many there were."""
        if self._care.sessions is None:
            return 0
        with open_application(self._url) as database:
            sessions = self._care.sessions
            whose = self._of_user(database, sessions, email)
            return database[sessions.source].delete_many(whose).deleted_count

    def end_all_sessions(self) -> int:
        """Delete everybody's sessions and return how many there were."""
        if self._care.sessions is None:
            return 0
        with open_application(self._url) as database:
            must_have(database, self._care.sessions.source, "users.sessions")
            return database[self._care.sessions.source].delete_many({}).deleted_count

    def _of_user(self, database: Database[Document], sessions: UserSessions, email: str) -> Document:
        users = database[self._care.source].find({self._care.email_field: email}, {sessions.holds: True})
        held = [value for user in users if (value := read_path(user, sessions.holds)) is not None]
        # An application may hold an ObjectId as the text of it.
        texts = [str(value) for value in held if isinstance(value, ObjectId)]
        return {sessions.user_field: {"$in": held + texts}}

    def _find(self, query: Document) -> tuple[Account, ...]:
        care = self._care
        names = (
            care.email_field,
            care.role_field,
            care.active_field,
            care.organization_field,
            care.created_field,
            care.last_login_field,
        )
        fields = {name: True for name in names if name is not None}
        with open_application(self._url) as database:
            must_have(database, care.source, "users")
            found = database[care.source].find(query, fields).sort(care.email_field, pymongo.ASCENDING)
            return tuple(self._tell(document) for document in found)

    def _tell(self, document: Document) -> Account:
        care = self._care
        role = read_path(document, care.role_field)
        roles = [str(one) for one in role] if isinstance(role, list) else [str(role)] if role else []
        organization = read_path(document, care.organization_field)
        identity = document.get("_id")
        made = identity.generation_time if isinstance(identity, ObjectId) else None
        return Account(
            email=str(read_path(document, care.email_field)),
            role=", ".join(roles),
            # As applications ask: only who was made inactive is.
            active=read_path(document, care.active_field) is not False,
            is_admin=bool(set(roles) & set(care.admin_roles)),
            organization=str(organization) if organization is not None else None,
            created=aware(read_path(document, care.created_field)) if care.created_field else made,
            last_login=aware(read_path(document, care.last_login_field)),
        )


@contextmanager
def open_application(url: str, seconds: float = SECONDS) -> Generator[Database[Document]]:
    """Open the application's own database, all of what is asked within so many seconds."""
    with pymongo.timeout(seconds), mongodb.connect(url) as client:
        yield client[mongodb.database_of(url)]


def must_have(database: Database[Document], source: str, section: str) -> None:
    """Raise ``ConfigurationError`` if there is no such collection: MongoDB takes it for an empty one."""
    if not database.list_collection_names(filter={"name": source}):
        raise ConfigurationError(
            f"The application's database has no collection {source}: correct {section}.source in the profile."
        )


def read_path(document: Mapping[str, Any], field: str | None) -> Any:
    """Given a field, a dot leading into a document, return what is there; None where nothing is."""
    value: Any = document
    for name in field.split(".") if field else ():
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if field else None


def aware(moment: object) -> datetime | None:
    """Given what a field holds, return the moment; None if it is none. The driver leaves the zone out."""
    return moment.replace(tzinfo=moment.tzinfo or UTC) if isinstance(moment, datetime) else None
