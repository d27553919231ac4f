"""`make deploy` where there is nothing to deploy to: one sentence, and no server of Prefect's own making."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from deployments.deploy import main


@pytest.fixture
def answering(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that answers everything with one status, as Prefect's does a wrong password."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer()

        def answer(self) -> None:
            self.send_response(request.param)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"exception_message": "refused"}')

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


def deploy_to(url: str | None, capsys: pytest.CaptureFixture[str]) -> str:
    with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: "operator:hunter2"}):
        assert main() == 1
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def test_nothing_is_deployed_where_nobody_says_where_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy_to(None, capsys) == "PREFECT_API_URL is not set: name the API of the Prefect server.\n"


@pytest.mark.parametrize(
    ("url", "kind"),
    [("http://127.0.0.1:9/api", "ConnectError"), ("prefect.example.com/api", "UnsupportedProtocol")],
)
def test_a_server_that_does_not_answer_is_told(
    url: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy_to(url, capsys) == (
        f"The Prefect server does not answer ({kind}): start it, or correct PREFECT_API_URL.\n"
    )


@pytest.mark.parametrize(
    ("answering", "said"),
    [
        (401, "The Prefect server refuses the login (401): correct PREFECT_API_AUTH_STRING.\n"),
        (500, "The Prefect server answered 500 to what was asked of it: see its log.\n"),
    ],
    indirect=["answering"],
)
def test_a_server_that_refuses_is_told(answering: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert deploy_to(answering, capsys) == said
