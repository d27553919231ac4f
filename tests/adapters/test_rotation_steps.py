"""The steps of a rotation: what they do of the files of the host, whatever the credential."""

from pathlib import Path

import pytest

from tasks.environment_file import read_variables
from tasks.records.credential_care import Credentials, JwtSecret
from tasks.records.rotation import Kept
from tasks.records.service import ServiceProfile
from tasks.rotation_files import keep
from tasks.rotation_steps import find_after_kill, put_back

SECRET = "JWT_SECRET"
NEW = "n" * 43


@pytest.fixture
def profile(propertypulse: ServiceProfile, tmp_path: Path) -> ServiceProfile:
    return propertypulse.model_copy(
        update={
            "application": propertypulse.application.model_copy(update={"directory": tmp_path}),
            "credentials": Credentials(jwt_secret=JwtSecret()),
            "state_directory": tmp_path / "state",
        }
    )


@pytest.mark.parametrize("old", ["o" * 64, "changeme"])
def test_an_old_secret_of_tokens_is_put_back_however_short_it_is(profile: ServiceProfile, old: str) -> None:
    profile.env_path.write_text(f"{SECRET}={NEW}\n")
    keep(profile, "jwt-secret", "previous", Kept("one", {SECRET: old}))
    keep(profile, "jwt-secret", "pending", Kept("one", {SECRET: NEW}))
    assert find_after_kill.fn(profile, "jwt-secret", "one", (SECRET,)).previous == "accepted"
    assert put_back.fn(profile, "jwt-secret")
    assert read_variables(profile)[SECRET] == old


def test_nothing_of_the_new_one_is_left_beside_an_env_file_that_has_the_old_one_already(
    profile: ServiceProfile,
) -> None:
    old = "o" * 64
    profile.env_path.write_text(f"{SECRET}={old}\n")
    beside = profile.env_path.with_name(".env.unfinished")
    beside.write_text(f"{SECRET}={NEW}\n")
    keep(profile, "jwt-secret", "previous", Kept("one", {SECRET: old}))
    keep(profile, "jwt-secret", "pending", Kept("one", {SECRET: NEW}))
    assert not put_back.fn(profile, "jwt-secret")
    assert not beside.exists()
    assert profile.env_path.read_text() == f"{SECRET}={old}\n"
