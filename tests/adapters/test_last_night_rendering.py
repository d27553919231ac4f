"""The page of last night: whole, readable without anything else, and nothing in it but text."""

import stat
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tasks.errors import RunbookError
from tasks.last_night_rendering import render_html, render_night, write_night
from tasks.records.last_night import NightLine, NightPage
from tasks.records.service import ServiceProfile

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
SINCE = NOW - timedelta(hours=24)
HOSTILE = (
    "</small></li><script>alert(1)</script><img src=x onerror=alert(1)>'\" onload=x &lt;b&gt; | a | b |\n"
    "# Heading [link](javascript:alert(1)) ![x](http://evil/x.png) `code` \x00\x1b[2J\u202e"
)
GOOD = NightPage(service="a", title="A", lines=(NightLine(level="good", what="x", how="ran"),))
BAD = NightPage(
    service="z", title=HOSTILE, lines=(NightLine(level="bad", what=HOSTILE, how=HOSTILE, said=HOSTILE),)
)
TAGS = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "ul", "li", "b", "small"}


class Reader(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[tuple[str, str | None]] = set()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)
            self.attributes |= set(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def test_a_hostile_message_is_text_in_the_file_and_nothing_else() -> None:
    html = render_html((GOOD, BAD), SINCE, NOW, UTC)
    reader = read(html)
    assert set(reader.tags) == TAGS
    assert reader.attributes == {("lang", "en"), ("class", "bad"), ("class", "good")}
    assert "<script>alert(1)</script>" in reader.text
    assert "&lt;b&gt;" in reader.text
    assert not {"\x00", "\x1b", "\u202e"} & set(html)


def test_a_hostile_message_is_text_in_the_artifact_and_nothing_else() -> None:
    page = render_night(BAD, HOSTILE, SINCE, UTC)
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(page)
    inline = [child.type for token in tokens for child in token.children or ()]
    assert set(inline) <= {"text", "text_special", "strong_open", "strong_close", "softbreak"}
    assert [token.tag for token in tokens if token.type == "heading_open"] == ["h1", "h2"]
    assert sum(token.type == "td_open" for token in tokens) == 4


def test_the_file_begins_with_what_is_wrong_and_needs_nothing_from_elsewhere() -> None:
    ill = BAD.model_copy(update={"title": "Zoo"})
    html = render_html((GOOD, ill), SINCE, NOW, UTC)
    text = read(html).text
    assert "Look at Zoo." in text
    assert text.index("Zoo", text.index("Look at Zoo.") + 11) < text.index("✓ x ran")
    assert 'name="viewport"' in html
    assert "http" not in html.replace("http-equiv", "").replace("http://evil", "")
    assert "All is well." in read(render_html((GOOD,), SINCE, NOW, UTC)).text


def test_the_file_takes_the_place_of_the_one_before_whole(invoice: ServiceProfile, tmp_path: Path) -> None:
    profile = invoice.model_copy(update={"state_directory": tmp_path / "state"})
    path = write_night.fn(profile, (BAD,), SINCE, NOW)
    with path.open(encoding="utf-8") as reading:
        write_night.fn(profile, (GOOD,), SINCE, NOW)
        assert "Look at" in reading.read()
    assert path == tmp_path / "state" / "last-night.html"
    assert "All is well." in path.read_text(encoding="utf-8")
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0
    assert sorted(found.name for found in path.parent.iterdir()) == ["invoice", "last-night.html"]


def test_a_place_that_cannot_be_written_is_said_in_a_sentence(
    invoice: ServiceProfile, tmp_path: Path
) -> None:
    profile = invoice.model_copy(update={"state_directory": tmp_path})
    (tmp_path / "last-night.html").mkdir()
    with pytest.raises(RunbookError, match=r"last-night\.html could not be written: Is a directory\."):
        write_night.fn(profile, (GOOD,), SINCE, NOW)
