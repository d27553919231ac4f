"""Health and login, asked of the sandbox's real applications and of servers that misbehave."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import AccessDeniedError, ConfigurationError, UnreachableError
from tasks.http_probe import await_health, probe_health, probe_login
from tasks.records.application import Login
from tasks.records.service import ServiceProfile

Serve = Callable[[bytes], str]


def answer(body: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n{body}".encode()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A maker of servers that give every request the same answer, or with an empty one never any."""
    listeners: list[socket.socket] = []
    held: list[socket.socket] = []

    def make(said: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def loop() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    held.append(client)
                    if said:
                        client.recv(1 << 16)
                        client.sendall(said)
                        client.close()

        threading.Thread(target=loop, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/health"

    yield make
    for opened in (*listeners, *held):
        opened.close()


def changed(profile: ServiceProfile, **application: Any) -> ServiceProfile:
    return profile.model_copy(update={"application": profile.application.model_copy(update=application)})


@pytest.fixture(params=["invoice", "propertypulse"])
def service(request: pytest.FixtureRequest) -> ServiceProfile:
    profile: ServiceProfile = request.getfixturevalue(request.param)
    return profile


def with_login(profile: ServiceProfile, **changes: Any) -> ServiceProfile:
    login = profile.application.login
    assert login is not None
    return changed(profile, login=Login(**{**login.model_dump(), **changes}))


def private(path: Path, text: str) -> str:
    path.touch(mode=0o600)
    path.write_text(text)
    return f"file:{path}"


def test_a_healthy_application_is_awaited_no_longer_than_it_takes(service: ServiceProfile) -> None:
    health = await_health.fn(service)
    assert health.problem is None
    assert health.url == service.application.health_url


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (answer('{"status": "OK"}'), None),
        (answer('{"status": "ERROR"}'), "its status is 'ERROR', not 'OK'"),
        (answer('{"status": "OK"}', "503 Service Unavailable"), "it answered 503"),
        (answer('{"status": "OK"}', kind="Application/JSON; charset=utf-8"), None),
        (answer('["OK"]'), "its answer has no status"),
        (answer("<html>", kind="text/html; charset=utf-8"), "its answer is text/html, not application/json"),
        (answer("OK", kind=""), "its answer is of no type, not application/json"),
        (answer("{"), "its answer is no JSON"),
        (answer("[" * 60_000), "its answer is no JSON"),
        (b"nonsense\r\n\r\n", "it broke the connection off (RemoteProtocolError)"),
    ],
)
def test_what_a_health_url_answers_is_judged(serve: Serve, said: bytes, problem: str | None) -> None:
    assert probe_health.fn(serve(said)).problem == problem


def test_a_health_url_that_hangs_is_given_up_when_the_time_to_start_is_over(
    serve: Serve, invoice: ServiceProfile
) -> None:
    hanging = changed(invoice, health_url=serve(b""), start_within=timedelta(seconds=1))
    began = time.monotonic()
    with pytest.raises(UnreachableError) as raised:
        await_health.fn(hanging)
    assert time.monotonic() - began < 5
    assert str(raised.value) == (
        f"invoice: {hanging.application.health_url} was not healthy within 1 s of the start, it did not "
        "answer within 1 s; PM2 says of invoice-backend: 1 online: see the log of invoice-backend."
    )


def test_health_that_comes_late_but_in_time_is_health(invoice: ServiceProfile) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    late = changed(invoice, health_url=f"http://127.0.0.1:{port}/", start_within=timedelta(seconds=20))

    def come_up() -> None:
        with socket.create_server(("127.0.0.1", port)) as listener:
            for status in ("ERROR", "OK"):
                client, _ = listener.accept()
                with client:
                    client.recv(1 << 16)
                    client.sendall(answer(f'{{"status": "{status}"}}'))

    starting = threading.Timer(0.5, come_up)
    starting.start()
    assert await_health.fn(late).problem is None
    starting.join()


def test_a_missing_process_manager_does_not_hide_why_the_application_is_ill(
    invoice: ServiceProfile, tmp_path: Path
) -> None:
    ill = changed(
        invoice,
        health_url="http://127.0.0.1:1/",
        start_within=timedelta(0),
        process_manager_program=tmp_path / "none",
    )
    with pytest.raises(
        UnreachableError, match=r"nobody listens there \(connection refused\); .*none is no program"
    ):
        await_health.fn(ill)


def test_the_probe_user_logs_in_and_a_profile_without_a_login_has_nothing_to_prove(
    service: ServiceProfile,
) -> None:
    assert service.application.login is not None
    assert probe_login.fn(service) is None
    assert probe_login.fn(changed(service, login=None)) is None


def test_a_wrong_password_is_a_sentence_without_it(service: ServiceProfile, tmp_path: Path) -> None:
    wrong = with_login(service, password=private(tmp_path / "password", "not-the-password"))
    assert wrong.application.login is not None
    assert probe_login.fn(wrong) == (
        f"The login of probe@example.com at {wrong.application.login.url} answered 401, not 200."
    )


@pytest.mark.parametrize(
    ("said", "end"),
    [
        (answer('{"accessToken": "abc"}'), None),
        (answer('{"token": ""}'), "answered 200, but no token."),
        (answer("[]"), "answered 200, but no token."),
        (answer("token"), "answered 200, but no JSON."),
        (answer('{"token": "abc"}', "302 Found"), "answered 302, not 200."),
    ],
)
def test_only_a_token_proves_a_login(
    serve: Serve, invoice: ServiceProfile, said: bytes, end: str | None
) -> None:
    found = probe_login.fn(with_login(invoice, url=serve(said)))
    if end is None:
        assert found is None
    else:
        assert found is not None
        assert found.endswith(end)


def test_a_login_that_does_not_answer_is_a_sentence_and_a_lost_password_an_error(
    invoice: ServiceProfile, tmp_path: Path
) -> None:
    assert probe_login.fn(with_login(invoice, url="http://127.0.0.1:1/login")) == (
        "The login at http://127.0.0.1:1/login does not work: nobody listens there (connection refused)."
    )
    with pytest.raises(ConfigurationError, match="does not exist"):
        probe_login.fn(with_login(invoice, password=f"file:{tmp_path / 'none'}"))
    readable = private(tmp_path / "readable", "secret")
    (tmp_path / "readable").chmod(0o644)
    with pytest.raises(AccessDeniedError, match="open to others"):
        probe_login.fn(with_login(invoice, password=readable))
