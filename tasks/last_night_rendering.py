"""The page of last night: Markdown for the Prefect UI, and one HTML file for all services of the host.

The file needs nothing but itself: no script, no picture, nothing from another server.
"""

from collections.abc import Sequence
from datetime import datetime, tzinfo
from html import escape as escape_html
from pathlib import Path
from typing import Final
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.artifact_rendering import LONGEST_SENTENCE, escape, render_list, render_table
from tasks.artifacts import publish_markdown
from tasks.errors import AccessDeniedError, StoreFullError
from tasks.host_folder import host_folder, replace_file
from tasks.records.figures import say_count, say_time, shorten
from tasks.records.last_night import NightLine, NightPage
from tasks.records.service import ServiceProfile

_MARKS: Final = {"bad": "✗", "note": "•", "good": "✓"}
_HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>What happened last night</title>
<style>
:root { color-scheme: light dark; }
body { font: 1rem/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 46rem; padding: 1rem; }
h1 { font-size: 1.4rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 1.5rem 0 .5rem; }
ul { list-style: none; margin: 0; padding: 0; }
li { border-left: .3rem solid #2e7d32; margin: .4rem 0; overflow-wrap: anywhere; padding: .2rem .6rem; }
li.note { border-color: #9e7b00; }
li.bad { border-color: #c62828; }
small { display: block; opacity: .75; }
</style>
</head>
<body>
"""


def publish_night(page: NightPage, said: str, since: datetime, zone: tzinfo) -> UUID:
    """Show one service's page."""
    return publish_markdown(render_night(page, said, since, zone), "last-night", "night", page.service)


def render_night(page: NightPage, said: str, since: datetime, zone: tzinfo) -> str:
    """Return one service's page as Markdown; what is bad stands in lines, the UI cuts off a wide table."""
    pieces = [
        f"# {escape(page.title)}: since {say_time(since, zone)}",
        f"**{escape(said, LONGEST_SENTENCE)}**",
    ]
    if bad := [f"{line.what}, {line.how}: {line.said}" for line in page.lines if line.level == "bad"]:
        pieces += ["## Look at", render_list(bad)]
    rows = ((_MARKS[line.level], line.what, line.how, line.said) for line in page.lines)
    return "\n\n".join([*pieces, render_table(("", "What", "How", "Why"), rows)])


def render_html(pages: Sequence[NightPage], since: datetime, now: datetime, zone: tzinfo) -> str:
    """Return the pages of all services as one HTML file, those first of which something is wrong."""
    ranked = sorted(pages, key=lambda page: (not page.bad, page.service))
    ill = [page.title for page in ranked if page.bad]
    answer = f"Look at {', '.join(ill)}." if ill else "All is well."
    times = f"{say_time(since, zone)} to {say_time(now, zone)}, {say_count(len(pages), 'service')}."
    body = "".join(_render_service(page) for page in ranked)
    return (
        f"{_HEAD}<h1>{_show(answer, LONGEST_SENTENCE)}</h1>\n<small>{_show(times)} A page that is not of "
        f"this morning means that nobody looked.</small>\n{body}</body>\n</html>\n"
    )


@task(cache_policy=NO_CACHE, persist_result=False)
def write_night(profile: ServiceProfile, pages: Sequence[NightPage], since: datetime, now: datetime) -> Path:
    """Given all pages, put the file in the place of the one before; return where it is.

    Who reads it meanwhile gets the one or the other, whole. Raise ``AccessDeniedError`` or ``StoreFullError``
    if it cannot be written.
    """
    host_folder(profile)
    path = profile.state_directory / "last-night.html"
    content = render_html(pages, since, now, profile.zone).encode()
    try:
        # The group may be that of a web server.
        replace_file(path, content, mode=0o640)
    except PermissionError:
        raise AccessDeniedError(
            f"{profile.name}: the worker may not write {path}: give its user the folder {path.parent}."
        ) from None
    except OSError as error:
        raise StoreFullError(f"{profile.name}: {path} could not be written: {error.strerror}.") from None
    return path


def _render_service(page: NightPage) -> str:
    lines = "".join(_render_line(line) for line in page.lines)
    return f"<h2>{_show(page.title)}</h2>\n<ul>\n{lines}</ul>\n"


def _render_line(line: NightLine) -> str:
    said = f"<small>{_show(line.said, LONGEST_SENTENCE)}</small>" if line.said else ""
    head = f"{_MARKS[line.level]} <b>{_show(line.what)}</b> {_show(line.how)}"
    return f'<li class="{line.level}">{head}{said}</li>\n'


def _show(text: str, most: int = 300) -> str:
    """Return any text as one line of HTML that shows it and does nothing else."""
    line = shorten(text, most)
    return escape_html("".join(character if character.isprintable() else "\ufffd" for character in line))
