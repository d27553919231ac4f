"""The application's env file means to us what it means to the application: Node's own dotenv is asked."""

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deployments.sandbox import programs
from deployments.sandbox.node import PACKAGES
from deployments.sandbox.stack import Sandbox
from tasks.environment_file import parse, read_variable, read_variables
from tasks.errors import AccessDeniedError, ConfigurationError
from tasks.records.service import ServiceProfile

PARSE = """
const { parse } = require('dotenv');
const texts = JSON.parse(require('fs').readFileSync(0, 'utf8'));
console.log(JSON.stringify(texts.map((text) => parse(text))));
"""
PIECES = st.sampled_from(
    [
        *"ABx1 =#:'\"`\\$\n\t.-_@",
        "export ",
        "KEY=",
        "\\n",
        "\\r",
        "\r\n",
        " #",
        "${A}",
        "ü",
        "名",
        "\n\n",
        '\\"',
        # What JavaScript takes for white space or the end of a line, and Python's own patterns do not.
        "\u00a0",
        "\u2028",
        "\ufeff",
        "\x85",
    ]
)


def as_node_reads(texts: list[str]) -> list[dict[str, str]]:
    found = subprocess.run(
        [str(programs.node()), "-e", PARSE],
        input=json.dumps(texts),
        env={"NODE_PATH": str(PACKAGES)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answers: list[dict[str, str]] = json.loads(found.stdout)
    return answers


WRITTEN = r"""# a comment
PLAIN=value
SPACES =  around the value   # and a comment
export EXPORTED=yes
COLON: value
EMPTY=
HASH=pass#word
QUOTED_HASH="pass#word"
SINGLE='it is $HOME and \n stays'
DOUBLE="two\nlines"
BACKSLASH="a\\b\tc"
ESCAPED="say \"hello\""
BACKTICK=`it's "both"`
LINES="first
second"
URL=postgresql://app:p%40ss@db:5432/x?schema=public&connection_limit=5
REPEATED=first
REPEATED=second
JSON={"a": "b"}
UNCLOSED="no end
AFTER=1
no variable here
"""


def test_an_env_file_is_read_as_node_reads_it(sandbox: Sandbox) -> None:
    (expected,) = as_node_reads([WRITTEN])
    assert parse(WRITTEN) == expected
    assert expected["HASH"] == "pass"
    assert expected["BACKSLASH"] == r"a\\b\tc"


def test_any_text_is_read_as_node_reads_it(sandbox: Sandbox) -> None:
    texts: list[str] = []

    @settings(max_examples=400, deadline=None, database=None, derandomize=True)
    @given(text=st.lists(PIECES, max_size=25).map("".join))
    @example(text=WRITTEN)
    def collect(text: str) -> None:
        texts.append(text)

    collect()
    for text, expected in zip(texts, as_node_reads(texts), strict=True):
        assert parse(text) == expected, text


def beside(profile: ServiceProfile, folder: Path) -> ServiceProfile:
    application = profile.application.model_copy(update={"directory": folder})
    return profile.model_copy(update={"application": application})


def test_the_applications_own_file_holds_all_that_it_requires(invoice: ServiceProfile) -> None:
    values = read_variables(invoice)
    assert set(invoice.application.required_variables) <= values.keys()
    assert read_variable(invoice, "MONGODB_URI").startswith("mongodb://")


def test_windows_line_ends_and_byte_order_marks_do_no_harm(invoice: ServiceProfile, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfFIRST=1\r\nSECOND=2\r\n")
    assert read_variables(beside(invoice, tmp_path)) == {"FIRST": "1", "SECOND": "2"}


@pytest.mark.parametrize("written", ["OTHER=1\n", "WANTED=\n", "# WANTED=1\n", ""])
def test_a_variable_that_is_not_set_names_itself_and_the_file(
    invoice: ServiceProfile, tmp_path: Path, written: str
) -> None:
    (tmp_path / ".env").write_text(written)
    with pytest.raises(ConfigurationError, match=rf"invoice: WANTED is not set in {tmp_path}/\.env"):
        read_variable(beside(invoice, tmp_path), "WANTED")


def test_a_missing_file_is_named(invoice: ServiceProfile, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=rf"the env file {tmp_path}/\.env does not exist"):
        read_variables(beside(invoice, tmp_path))


def test_a_folder_in_its_place_cannot_be_read(invoice: ServiceProfile, tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    with pytest.raises(AccessDeniedError, match="cannot be read"):
        read_variables(beside(invoice, tmp_path))


def test_what_is_no_text_is_said_to_be_none(invoice: ServiceProfile, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"PASSWORD=\xff\xfehidden")
    with pytest.raises(ConfigurationError, match="not UTF-8 text") as raised:
        read_variables(beside(invoice, tmp_path))
    assert "hidden" not in repr(raised.value)
