"""Users and the audit log, read and changed by the applications' own connections on both databases."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from pymongo import MongoClient
from pymongo.database import Database

from deployments.sandbox.endpoints import Endpoints
from tasks.audit_reading import read_audit
from tasks.errors import ConfigurationError, RunbookError
from tasks.observing_user import observe_user
from tasks.records.accounts import AttemptExtract
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile
from tasks.records.user_care import AuditSource, UserSessions
from tasks.users import end_account_sessions, observe_account, observe_admins, set_account_active

EMAIL = "first.admin@example.net"
Change = Callable[..., ServiceProfile]


@pytest.fixture(params=["invoice", "propertypulse"])
def service(request: pytest.FixtureRequest, invoice: ServiceProfile, propertypulse: ServiceProfile) -> Any:
    return invoice if request.param == "invoice" else propertypulse


@pytest.fixture
def admin(service: ServiceProfile, endpoints: Endpoints) -> Iterator[str]:
    """An administrator of the test's own, with two sessions in a place of its own."""
    if service.database.kind == "mongodb":
        client: MongoClient[dict[str, Any]]
        with MongoClient(endpoints.mongodb_admin_url) as client:
            database: Database[dict[str, Any]] = client["invoice"]
            user = database["users"].insert_one(
                {"email": EMAIL, "role": "admin", "isActive": True, "organizationId": "its own"}
            )
            database["tokens"].insert_many([{"userId": str(user.inserted_id)}, {"userId": user.inserted_id}])
            database["tokens"].insert_one({"userId": "somebody else"})
            yield EMAIL
            database["users"].delete_many({"email": EMAIL})
            database["tokens"].drop()
        return
    with psycopg.connect(endpoints.postgresql_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO users (email, password_hash, role) VALUES (%s, 'none', 'ADMIN')", [EMAIL]
        )
        connection.execute('CREATE TABLE tokens ("userId" text)')
        connection.execute(
            "INSERT INTO tokens SELECT id::text FROM users, generate_series(1, 2) WHERE email = %s", [EMAIL]
        )
        connection.execute("INSERT INTO tokens VALUES ('somebody else')")
        yield EMAIL
        connection.execute("DROP TABLE tokens")
        connection.execute("DELETE FROM users WHERE email = %s", [EMAIL])


def with_sessions(service: ServiceProfile) -> ServiceProfile:
    identity = "_id" if service.database.kind == "mongodb" else "id"
    sessions = UserSessions(source="tokens", user_field="userId", holds=identity)
    return service.model_copy(update={"users": service.users.model_copy(update={"sessions": sessions})})


def with_users(service: ServiceProfile, **changes: Any) -> ServiceProfile:
    return service.model_copy(update={"users": service.users.model_copy(update=changes)})


def with_audit(service: ServiceProfile, **changes: Any) -> ServiceProfile:
    return with_users(service, audit=service.users.audit.model_copy(update=changes))


def test_administrators_are_listed_with_whether_they_may_log_in(service: ServiceProfile, admin: str) -> None:
    found = {one.email: one for one in observe_admins.fn(service)}
    assert {one.role for one in found.values()} <= set(service.users.admin_roles)
    assert found[admin].active
    assert found["probe@example.com"].is_admin
    set_account_active.fn(service, admin, active=False)
    assert not {one.email: one for one in observe_admins.fn(service)}[admin].active


def test_a_user_who_is_made_inactive_is_so_for_the_application_too_and_can_be_enabled(
    service: ServiceProfile, admin: str
) -> None:
    for active in (False, False, True):
        set_account_active.fn(service, admin, active=active)
        (account,) = observe_account.fn(service, admin).exact
        assert account.active is active
        seen = observe_user.fn(service, admin)
        assert not isinstance(seen, Unknown)
        assert seen.active is active


def test_who_else_administers_is_counted_without_the_probe_and_the_inactive(
    service: ServiceProfile, admin: str
) -> None:
    facts = observe_account.fn(service, admin)
    others = {one.email for one in observe_admins.fn(service) if one.active}
    assert facts.other_admins == len(others - {admin, "probe@example.com"})
    expected = 0 if service.database.kind == "mongodb" else facts.other_admins
    assert facts.other_admins_of_organization == expected


def test_other_capitals_are_told_and_not_taken_for_the_user(service: ServiceProfile, admin: str) -> None:
    facts = observe_account.fn(service, admin.upper())
    assert facts.exact == ()
    assert facts.alike == admin
    nobody = observe_account.fn(service, "nobody@example.net")
    assert (nobody.exact, nobody.alike, nobody.sessions) == ((), None, None)


def test_sessions_of_the_user_are_ended_and_nobody_elses(service: ServiceProfile, admin: str) -> None:
    changed = with_sessions(service)
    assert observe_account.fn(changed, admin).sessions == 2
    assert end_account_sessions.fn(changed, admin) == 2
    assert observe_account.fn(changed, admin).sessions == 0
    assert end_account_sessions.fn(changed, admin) == 0


def test_nobody_is_changed_when_no_one_user_has_the_address(service: ServiceProfile) -> None:
    with pytest.raises(ConfigurationError, match="nothing was changed"):
        set_account_active.fn(service, "nobody@example.net", active=False)


def test_a_source_that_is_not_there_is_no_empty_one(service: ServiceProfile) -> None:
    with pytest.raises(ConfigurationError, match=r"no (table|collection) people: correct users.source"):
        observe_admins.fn(with_users(service, source="people"))
    since = datetime.now(UTC) - timedelta(days=1)
    found = read_audit.fn(with_audit(service, source="nowhere"), ["LOGIN_FAILED"], since, datetime.now(UTC))
    assert isinstance(found, Unknown)
    assert "correct users.audit.source" in found.why


def test_a_column_that_is_not_there_or_no_boolean_is_named(propertypulse: ServiceProfile) -> None:
    with pytest.raises(ConfigurationError, match="no column rank, which users names"):
        observe_admins.fn(with_users(propertypulse, role_field="rank"))
    with pytest.raises(ConfigurationError, match="email of users is no boolean"):
        observe_admins.fn(with_users(propertypulse, active_field="email"))
    with pytest.raises(ConfigurationError, match="no JSON column name"):
        observe_admins.fn(with_users(propertypulse, role_field="name.first"))


def test_what_was_refused_is_in_order_with_user_and_address_and_only_of_the_period(
    service: ServiceProfile,
) -> None:
    until = datetime(2026, 1, 1, tzinfo=UTC)
    since = until - timedelta(days=365)
    found = read_audit.fn(service, ["LOGIN_FAILED"], since, until)
    assert isinstance(found, AttemptExtract)
    moments = [one.at for one in found.attempts]
    assert moments == sorted(moments)
    assert since <= moments[0]
    assert moments[-1] <= until
    assert {one.action for one in found.attempts} == {"LOGIN_FAILED"}
    assert all(one.address and one.address.startswith("192.0.2.") for one in found.attempts)
    half = read_audit.fn(service, ["LOGIN_FAILED"], moments[len(moments) // 2], until)
    assert isinstance(half, AttemptExtract)
    assert 0 < len(half.attempts) < len(found.attempts)


def test_of_too_many_entries_the_newest_are_read_and_the_others_counted(
    service: ServiceProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    until = datetime(2026, 1, 1, tzinfo=UTC)
    span = (until - timedelta(days=730), until)
    everything = read_audit.fn(service, ["LOGIN_FAILED"], *span)
    monkeypatch.setattr("tasks.audit_reading._MOST", 5)
    some = read_audit.fn(service, ["LOGIN_FAILED"], *span)
    assert isinstance(everything, AttemptExtract)
    assert isinstance(some, AttemptExtract)
    assert some.attempts[-1].at == everything.attempts[-1].at
    assert len(some.attempts) == 5
    assert some.left_out == len(everything.attempts) - 5


def test_a_database_that_refuses_is_no_clean_audit_log(service: ServiceProfile) -> None:
    settings = service.database.model_copy(update={"url_variable": "PORT"})
    broken = service.model_copy(update={"database": settings})
    now = datetime.now(UTC)
    assert isinstance(read_audit.fn(broken, ["LOGIN_FAILED"], now - timedelta(days=1), now), Unknown)
    with pytest.raises(RunbookError):
        observe_admins.fn(broken)


def test_an_audit_log_may_name_neither_user_nor_address(service: ServiceProfile) -> None:
    audit = service.users.audit
    bare = AuditSource(**{**audit.model_dump(), "user_field": None, "address_field": None})
    until = datetime(2026, 1, 1, tzinfo=UTC)
    found = read_audit.fn(
        with_users(service, audit=bare), ["LOGIN_FAILED"], until - timedelta(days=60), until
    )
    assert isinstance(found, AttemptExtract)
    assert found.attempts
    assert {(one.user, one.address) for one in found.attempts} == {(None, None)}
