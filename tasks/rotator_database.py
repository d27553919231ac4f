"""Runbook row P5: the password of the application's database user, of one user or of two that take turns.

What the servers do differently is in ``rotator_postgresql`` and ``rotator_mongodb``.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from tasks.database_login import (
    DatabaseLogin,
    find_bare,
    find_others,
    find_urls,
    make_password,
    read_login,
    read_place,
    replace_login,
)
from tasks.database_users import DatabaseUsers
from tasks.environment_file import read_variable, read_variables
from tasks.errors import RunbookError, UnreachableError
from tasks.known_good import fingerprint
from tasks.process_facts import start_of
from tasks.process_manager import manager_of
from tasks.records.credential_care import DatabasePassword
from tasks.records.rotation import CredentialFacts, Kept, Stage
from tasks.records.service import ServiceProfile

_POLL_SECONDS: Final = 0.2
# The kernel says only to the second when a process was started.
_START_TOLERANCE_SECONDS: Final = 2.0
_ENDING: Final = "end the sessions that the old password opened"
_LEAVING: Final = "leave sessions that the old password opened to end by themselves"


class DatabaseRotator:
    """The password in the URL that the profile names, and in every other URL with the same login."""

    def __init__(self, profile: ServiceProfile, terms: DatabasePassword, users: DatabaseUsers) -> None:
        """Take the service, what its profile says of the password, and the server's users."""
        self._profile, self._terms, self._users = profile, terms, users
        self._variable = profile.database.url_variable

    def observe(self) -> CredentialFacts:
        """Return whose password it is, who takes the turn, and what would keep it from being rotated."""
        present = read_variables(self._profile)
        login = read_login(read_variable(self._profile, self._variable))
        following = self._follow(login.user) if login is not None else None
        refusal = self._refuse(present, login, following)
        is_dead = refusal is None and not self._users.accepts(present[self._variable])
        user = login.user if login is not None else "nobody"
        taker = following or user
        variables = self._list_variables(present)
        return CredentialFacts(
            credential="database-password",
            identity=f"{taker} of {self._users.place}",
            variables={name: fingerprint(self._profile, name, present[name])[:12] for name in variables},
            provider={user: "refused" if is_dead else "in use"}
            | ({following: "takes the turn"} if following else {}),
            making=f"Make a password of 256 random bits for {taker}",
            setting=f"Give it to {taker} at the server{self._users.in_which_form}",
            testing="By new connections, read all that the application may, compare permissions, and write "
            "what is rolled back",
            proving="Log in as the probe user, and compare the fingerprints of what every process runs with",
            undoing=_say_undoing(user, following, is_dead=is_dead),
            stages=(self._stage(user, following),),
            warnings=(
                (
                    *self._warn(user, following, is_dead=is_dead),
                    *self._warn_of_others(present),
                    *self._users.warn(taker),
                )
                if refusal is None
                else ()
            ),
            is_dead=is_dead,
            refusal=refusal,
        )

    def make(self, rotation: str, before: Mapping[str, str]) -> Kept:
        """Return every variable with the new login in it; the server is told nothing yet."""
        del before
        present = read_variables(self._profile)
        old = self._login_in(present)
        new = DatabaseLogin(self._follow(old.user) or old.user, make_password())
        urls = set(find_urls(present, present[self._variable]))
        return Kept(
            rotation,
            {
                name: replace_login(present[name], new) if name in urls else new.password
                for name in self._list_variables(present)
            },
            {"user": new.user},
        )

    def discard(
        self, rotation: str, before: Mapping[str, str], pending: Kept | None, making: datetime | None = None
    ) -> None:
        """Take the new password from the user whose turn did not come, or is over."""
        del rotation, before, making
        if pending is None:
            return
        user = pending.facts["user"]
        is_in_use = user == self._login_in(read_variables(self._profile)).user
        # Of a rotation in grace, whose password is in the env file alone, it is in force.
        if not is_in_use and (not pending.variables or self.accepts(pending)):
            self._users.end_password(user)

    def put_in_force(self, pending: Kept, previous: Kept) -> None:
        """Give the new password to its user; where that is the same user, the old one ends here."""
        del previous
        login = self._login_in(pending.variables)
        self._users.set_password(login.user, login.password)

    def put_back(self, pending: Kept, previous: Kept) -> None:
        """Give the old password to its user again, where it was taken; of two users nobody took it.

        Whoever gets in with it is not asked first: a pooler lets in as well, by a session that it has.
        """
        new, old = (self._login_in(kept.variables) for kept in (pending, previous))
        if new.user == old.user:
            self._users.set_password(old.user, old.password)
            # No more than a new one is it known everywhere at once.
            self._settles(previous, accepted=True)

    def accepts(self, values: Kept) -> bool:
        """Return whether a new connection with the values' URL gets in."""
        return self._users.accepts(values.value(self._variable))

    def exercise(self, pending: Kept, previous: Kept) -> None:
        """Wait until the server accepts the new login, and do with it what the application does."""
        new, old = self._login_in(pending.variables), self._login_in(previous.variables)
        if not self._settles(pending, accepted=True):
            raise RunbookError(f"{self._users.place} does not accept the new password of {new.user}.")
        self._users.exercise(
            pending.value(self._variable), None if new.user == old.user else previous.value(self._variable)
        )
        self._try_elsewhere(pending)

    def prove_application(self, pending: Kept, previous: Kept) -> str | None:
        """Return whose sessions the application has; raise ``UnreachableError`` if only the old user has any.

        A single user's sessions look alike: there the fingerprints tell.
        """
        new, old = (self._login_in(kept.variables).user for kept in (pending, previous))
        if new == old:
            return None
        deadline = time.monotonic() + self._users.settled_within
        while not (opened := self._users.list_sessions(new)):
            if time.monotonic() > deadline:
                raise UnreachableError(
                    f"{self._users.place}: {new} has no session, so the application does not use it; {old} "
                    f"has {len(self._users.list_sessions(old))}."
                )
            time.sleep(_POLL_SECONDS)
        return f"The application's sessions are {new}'s ({len(opened)})."

    def find_use(self, stage: str, previous: Kept) -> str | None:
        """Return who still has sessions as the user whose turn is over; a single user's are the new one's."""
        del stage
        user = self._login_in(previous.variables).user
        if user == self._login_in(read_variables(self._profile)).user:
            return None
        found = self._users.list_sessions(user)
        places = ", ".join(dict.fromkeys(found))
        return f"{user} still has {len(found)} sessions open, from {places}" if found else None

    def retire(self, stage: str, pending: Kept, previous: Kept) -> None:
        """Take the old user's password away, and end what was opened with the old one if that is wanted."""
        del stage
        new, old = (self._login_in(kept.variables).user for kept in (pending, previous))
        if new != old:
            self._users.end_password(old)
        if self._terms.end_sessions and new != old:
            self._users.end_sessions(old, None)
        elif self._terms.end_sessions and self._users.tells_sessions_apart:
            self._users.end_sessions(old, self._measure_age())

    def prove_refused(self, stage: str, previous: Kept) -> str:
        """Return that a new connection with the old URL was refused; raise ``RunbookError`` if it gets in."""
        del stage
        user = self._login_in(previous.variables).user
        if not self._settles(previous, accepted=False):
            raise RunbookError(
                f"{self._users.place} still accepts the old password of {user}: see whether somebody gave it "
                "again, or a pooler before the server has a list of its own."
            )
        return f"A new connection of {user} with the old password is refused."

    def _try_elsewhere(self, pending: Kept) -> None:
        """Raise ``RunbookError`` if another server that a changed URL leads to refuses the new login."""
        own = read_place(pending.value(self._variable))
        for name, value in pending.variables.items():
            place = read_place(value or "")
            elsewhere = Kept(pending.rotation, {self._variable: value})
            if place and place != own and not self._settles(elsewhere, accepted=True):
                raise RunbookError(
                    f"{name} has the login of {self._variable}, and leads to {place}, which does not accept "
                    "the new password: give its user there another one, or take the variable out."
                )

    def _settles(self, kept: Kept, *, accepted: bool) -> bool:
        deadline = time.monotonic() + self._users.settled_within
        while self.accepts(kept) is not accepted:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _login_in(self, variables: Mapping[str, str | None]) -> DatabaseLogin:
        login = read_login(variables.get(self._variable) or "")
        if login is None:
            raise RunbookError(f"{self._profile.name}: {self._variable} holds no user and password.")
        return login

    def _list_variables(self, present: Mapping[str, str]) -> tuple[str, ...]:
        url = present[self._variable]
        names = {self._variable, *find_urls(present, url), *find_bare(present, url)}
        return tuple(name for name in present if name in names)

    def _follow(self, user: str) -> str | None:
        """Return who takes the turn after a user, None where there are no turns."""
        return next((other for other in self._terms.alternate if other != user), None)

    def _stage(self, user: str, following: str | None) -> Stage:
        ends = self._terms.end_sessions
        if following is not None:
            also = " and end its sessions" if ends else ""
            return Stage(name=f"take {user}'s password away{also}", after=self._terms.grace)
        ending = ends and self._users.tells_sessions_apart
        return Stage(name=_ENDING if ending else _LEAVING, after=timedelta(0))

    def _refuse(
        self, present: Mapping[str, str], login: DatabaseLogin | None, following: str | None
    ) -> str | None:
        if login is None:
            return (
                f"{self._variable} holds no user and password, so they are managed elsewhere (a password "
                "file, a certificate, a cloud's tokens): rotate them there."
            )
        turns = self._terms.alternate
        if turns and login.user not in turns:
            return (
                f"{self._variable} has the user {login.user}, who is none of credentials.database_password."
                f"alternate ({', '.join(turns)}): correct one of them."
            )
        if following and (bare := [*find_bare(present, present[self._variable])]):
            return (
                f"{', '.join(bare)} holds the password without its user, who would change: let the "
                f"application read {self._variable} only, or take alternate out of the profile."
            )
        return self._users.refuse(login.user, following)

    def _warn(self, user: str, following: str | None, *, is_dead: bool) -> tuple[str, ...]:
        if is_dead:
            said = f"{self._users.place} refuses the password in {self._variable} already"
            return (f"{said}: it is never put back. If somebody gave {user} another, that one ends too.",)
        if following is not None:
            return ()
        places = sorted({place.partition(" ")[0] for place in self._users.list_sessions(user)})
        said = "Until the restart new connections with the old password are refused; of two users that take "
        warnings = [f"{said}turns, both work then."]
        if len(places) > 1:
            warnings.append(f"{user} has sessions from {', '.join(places)}: all need the new password.")
        return tuple(warnings)

    def _warn_of_others(self, present: Mapping[str, str]) -> tuple[str, ...]:
        others = ", ".join(find_others(present, present[self._variable]))
        if not others:
            return ()
        said = "the same password, of what is not known to be this database: it stays, give that another one."
        return (f"{others}: {said}",)

    def _measure_age(self) -> timedelta:
        """Return how long ago the application was started with the new password: what is older is not its."""
        starts = [start_of(pid) for pid in manager_of(self._profile).list_pids()]
        oldest = min((start for start in starts if start is not None), default=datetime.now(UTC))
        return datetime.now(UTC) - oldest + timedelta(seconds=_START_TOLERANCE_SECONDS)


def _say_undoing(user: str, following: str | None, *, is_dead: bool) -> str:
    if following is not None:
        return f"{following} loses it again"
    return "no other password is known" if is_dead else f"{user} gets its old password again"
