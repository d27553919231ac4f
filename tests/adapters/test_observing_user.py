"""Whether a user exists and is active, asked of both of the sandbox's databases."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from pymongo import MongoClient

from tasks.credentials import resolve
from tasks.environment_file import read_variable
from tasks.mongodb import database_of
from tasks.observing_user import observe_user
from tasks.postgresql import connect, parse_url
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile
from tasks.records.user import UserFacts

AWAY, TWIN = "away.h3@example.com", "twin.h3@example.com"


@pytest.fixture(params=["invoice", "propertypulse"])
def service(request: pytest.FixtureRequest) -> ServiceProfile:
    profile: ServiceProfile = request.getfixturevalue(request.param)
    return profile


@pytest.fixture
def somebody_away(invoice: ServiceProfile) -> Iterator[None]:
    url = read_variable(invoice, "MONGODB_URI")
    client: MongoClient[dict[str, Any]] = MongoClient(url)
    with client:
        users = client[database_of(url)]["users"]
        users.insert_one({"email": AWAY, "isActive": False})
        yield
        users.delete_many({"email": AWAY})


def observe(profile: ServiceProfile, user: str) -> UserFacts:
    found = observe_user.fn(profile, user)
    assert isinstance(found, UserFacts)
    return found


def with_login(profile: ServiceProfile, **changes: Any) -> ServiceProfile:
    assert profile.application.login is not None
    login = profile.application.login.model_copy(update=changes)
    application = profile.application.model_copy(update={"login": login})
    return profile.model_copy(update={"application": application})


def test_the_probe_user_is_known_and_active(service: ServiceProfile) -> None:
    found = observe(service, "probe@example.com")
    assert (found.found, found.active) == ("found", True)


def test_other_capitals_and_strangers_are_told_apart(service: ServiceProfile) -> None:
    assert observe(service, "Probe@Example.com").found == "spelled otherwise"
    assert observe(service, "nobody@example.com").found == "not found"
    assert observe(service, "' OR 1=1 --").found == "not found"
    # A pattern is no address.
    assert observe(service, ".*").found == "not found"


@pytest.mark.usefixtures("somebody_away")
def test_a_user_who_was_deactivated_is_found_and_not_active(invoice: ServiceProfile) -> None:
    found = observe(invoice, AWAY)
    assert (found.found, found.active, found.told_by) == ("found", False, "isActive")


def test_two_users_of_one_address_are_told(propertypulse: ServiceProfile) -> None:
    url = read_variable(propertypulse, "DATABASE_URL")
    with psycopg.connect(
        resolve(propertypulse.database.admin_url).rpartition("/")[0] + "/propertypulse"
    ) as admin:
        admin.execute("CREATE TABLE twins (mail text, deleted_at timestamptz)")
        admin.execute("INSERT INTO twins VALUES (%s, now()), (%s, NULL), ('One@x.y', now())", [TWIN, TWIN])
        admin.execute("GRANT SELECT ON twins TO PUBLIC")
        admin.commit()
        try:
            ours = with_login(propertypulse, user_source="twins", user_field="mail")
            assert observe(ours, TWIN).found == "several"
            one = observe(ours, "One@x.y")
            assert (one.found, one.active, one.told_by) == ("found", False, "deleted_at")
        finally:
            admin.execute("DROP TABLE twins")
            admin.commit()
    with connect(parse_url(url)) as connection:
        assert connection.execute("SELECT to_regclass('twins')").fetchone() == (None,)


def test_what_keeps_from_looking_is_said(propertypulse: ServiceProfile) -> None:
    for changes, why in (
        ({"user_source": "people"}, "has no table people with a column email"),
        ({"user_field": "mail"}, "has no table users with a column mail"),
    ):
        found = observe_user.fn(with_login(propertypulse, **changes), "probe@example.com")
        assert isinstance(found, Unknown)
        assert why in found.why
    application = propertypulse.application.model_copy(update={"login": None})
    found = observe_user.fn(
        propertypulse.model_copy(update={"application": application}), "probe@example.com"
    )
    assert found == Unknown(why="the profile has no application.login, which says where users are")
