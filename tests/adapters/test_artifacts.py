"""What the operator sees: rendered as a Markdown reader renders it, without a server."""

import base64
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import Artifact, State
from prefect.context import FlowRunContext

from tasks import artifacts
from tasks.artifact_rendering import (
    escape,
    render_drill,
    render_findings,
    render_history,
    render_list,
    render_plan,
    render_retention,
    render_saved,
    render_table,
)
from tasks.charts import chart_history
from tasks.records.backup import (
    ApplicationContent,
    CollectionContent,
    Consistency,
    Manifest,
    MongodbContent,
    PostgresqlContent,
    SetSummary,
    StoredObject,
    TableFacts,
    Verification,
)
from tasks.records.figures import say_bytes, say_duration
from tasks.records.plans import BackupPlan, PlannedPart, RetentionPlan, SetDecision

NOW = datetime(2026, 11, 21, 1, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
NASTY = "a|b\n<script>x</script> *_`[l](http://x)\\&amp; ünï/~~"


def read_rows(markdown: str) -> list[list[str]]:
    """Return the cells of all tables, as the text that a reader of the rendered page sees."""
    rows: list[list[str]] = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and rows and token.level > 3:
            children = token.children or []
            assert {child.type for child in children} <= {"text", "text_special"}, children
            rows[-1].append("".join(child.content for child in children))
    return rows


def make_object(key: str, stored: int = 3_100_000, raw: int = 14_200_000) -> StoredObject:
    return StoredObject(key=key, bytes=stored, sha256="c" * 64, raw_bytes=raw)


def make_manifest(*, mongodb: bool) -> Manifest:
    collection = CollectionContent(
        database="invoice",
        collection=NASTY,
        kind="collection",
        documents=10_482,
        content_hash="0123456789abcdef" * 4,
        options="",
        indexes=(),
        metadata=make_object("m", 10, 10),
        data=make_object("d"),
    )
    view = collection.model_copy(update={"collection": "view", "kind": "view", "documents": 0, "data": None})
    return Manifest(
        set_id="s1",
        service="invoice",
        kind="nightly",
        reason="scheduled",
        started_at=NOW,
        finished_at=NOW + timedelta(seconds=8),
        consistency=Consistency(method="snapshot", moment="1", explanation="All of one moment."),
        mongodb=MongodbContent(server_version="8.0", collections=(collection, view), seconds=2.0)
        if mongodb
        else None,
        postgresql=None
        if mongodb
        else PostgresqlContent(
            tables=(TableFacts(table="public.users", columns="(id)", rows=7, content_hash="d" * 64),),
            definitions={},
            database="app",
            server_version="18",
            client_version="18",
            dump=make_object("app.dump"),
            seconds=3.0,
        ),
        application=ApplicationContent(
            files=42, content_hash="e" * 64, archive=make_object("app.tar.gz", 0, 0), seconds=1.0
        ),
        software={},
    )


def make_set(place: int, **changed: Any) -> SetSummary:
    facts: dict[str, Any] = {
        "set_id": f"s{place}",
        "kind": "nightly",
        "created_at": NOW + timedelta(days=place),
        "seconds": 40.0 + place,
        "stored_bytes": 3_100_000 + place * 1000,
        "raw_bytes": 14_200_000,
        "parts": 12,
        "entries": 10_482,
        "reread_passed": True,
        "drill_passed": None,
        "pinned": None,
        "leased_by": None,
    }
    return SetSummary(**(facts | changed))


def make_retention(refusal: str | None = None) -> RetentionPlan:
    decisions = (
        SetDecision("s2", NOW, 3_100_000, keep=True, reasons=("younger than 7 days", f"pinned: {NASTY}")),
        SetDecision("s1", NOW - timedelta(days=9), 500, keep=False, reasons=("not younger than 7 days",)),
    )
    return RetentionPlan("invoice", NOW, decisions, ("half",), refusal)


# --- figures


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (14_200_000, "14.2 MB"),
        (142_400_000, "142 MB"),
        (999_600_000, "1.0 GB"),
        (4_500_000_000_000, "4.5 TB"),
        (4_500_000_000_000_000, "4,500 TB"),
    ],
)
def test_sizes_are_said_in_three_digits(count: int, said: str) -> None:
    assert say_bytes(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0 s"),
        (0.04, "0 s"),
        (0.4, "0.4 s"),
        (8, "8 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (200.2, "3 min 20 s"),
        (18_180, "5 h 3 min"),
        (7200, "2 h"),
        (187_200, "2 days 4 h"),
    ],
)
def test_durations_are_said_in_two_units(seconds: float, said: str) -> None:
    assert say_duration(seconds) == said


# --- tables


@given(st.text(max_size=60))
def test_any_text_in_a_cell_is_shown_as_it_is_on_one_line(text: str) -> None:
    rows = read_rows(render_table(("Name", ">Figure"), [(text, 1), ("after", 2)]))
    visible = "".join(one if one.isprintable() else "\ufffd" for one in " ".join(text.split()))
    assert rows == [["Name", "Figure"], [visible, "1"], ["after", "2"]]


def test_a_long_cell_is_cut() -> None:
    assert len(escape("x" * 500)) == 300
    assert escape("x" * 500).endswith("…")


def test_a_long_list_says_how_much_more_there_is() -> None:
    lines = render_list([f"finding {place}" for place in range(1203)]).splitlines()
    assert len(lines) == 201
    assert lines[-1] == "- and 1,003 more"


def test_keys_are_what_prefect_takes() -> None:
    assert (
        artifacts.make_key("nightly-backup", "plan", "Invoice_App 2") == "nightly-backup-plan-invoice-app-2"
    )


# --- what was saved


def test_the_saved_table_has_every_collection_with_its_figures() -> None:
    rows = read_rows(render_saved(make_manifest(mongodb=True)))
    assert rows[1] == [
        " ".join(NASTY.split())[:31] + "…",
        "collection",
        "10,482",
        "14.2 MB",
        "3.1 MB",
        "",
        "0123456789ab",
    ]
    assert rows[2][:6] == ["view", "view", "0", "", "", ""]
    assert rows[-2][:3] == ["application", "files", "42"]
    assert rows[-1][:5] == ["total", "", "10,482", "14.2 MB", "3.1 MB"]
    assert rows[-1][5] == "8 s"


def test_the_saved_table_has_every_table_and_the_dump() -> None:
    rows = read_rows(render_saved(make_manifest(mongodb=False)))
    assert rows[1] == ["public.users", "table", "7", "", "", "", "d" * 12]
    assert rows[2] == ["app.dump", "dump", "", "14.2 MB", "3.1 MB", "3 s", "c" * 12]


# --- plans and retention


def make_plan(refusal: str | None = None) -> BackupPlan:
    return BackupPlan(
        set_id="s3",
        service="invoice",
        destination="s3://bucket/prefix",
        parts=(
            PlannedPart(NASTY, "collection", 10_482, 14_200_000),
            PlannedPart("empty", "collection", 0, 0),
            PlannedPart("/srv/invoice", "application", 0, 0),
        ),
        retention=make_retention(),
        consistency="All of one moment.",
        lateness="Started by hand.",
        refusal=refusal,
    )


def test_a_plan_shows_parts_and_decisions() -> None:
    text = render_plan(make_plan(), BERLIN)
    rows = read_rows(text)
    assert rows[1] == [" ".join(NASTY.split())[:31] + "…", "collection", "10,482", "14.2 MB"]
    assert rows[2] == ["empty", "collection", "0", "0 bytes"]
    assert rows[3] == ["/srv/invoice", "application", "", ""]
    assert rows[-1][1:4] == ["2026-11-12 02:00 CET", "500 bytes", "delete"]
    assert "To s3://bucket/prefix. Started by hand. All of one moment." in text
    assert "Refused" not in text
    assert "**Refused: no database**" in render_plan(make_plan("no database"))


def test_retention_says_what_was_done_and_why() -> None:
    text = render_retention(make_retention(), applied=True)
    assert "Deleted, as planned." in text
    assert "1 kept, 1 deleted, unfinished and collected: half" in text
    rows = read_rows(text)
    assert rows[1][3:] == ["keep", f"younger than 7 days; pinned: {' '.join(NASTY.split())}"]
    assert rows[2] == ["s1", "2026-11-12 01:00 UTC", "500 bytes", "delete", "not younger than 7 days"]
    assert "Nothing was deleted." in render_retention(make_retention(), applied=False)


def test_a_refused_retention_deleted_nothing_whatever_was_said() -> None:
    text = render_retention(make_retention("the clock was set back"), applied=True)
    assert "Nothing was deleted." in text
    assert "**Refused, nothing is deleted: the clock was set back**" in text
    assert read_rows(text)[2][3] == "would go"


def test_retention_without_any_set_shows_no_empty_table() -> None:
    text = render_retention(RetentionPlan("invoice", NOW, (), (), None), applied=True)
    assert "0 kept, 0 deleted" in text
    assert "|" not in text


# --- verdicts


def test_findings_are_listed_or_said_to_be_none() -> None:
    assert "- users has 0 bytes" in render_findings("invoice", "s1", ["users has 0 bytes"])
    assert "Nothing is wrong" in render_findings("invoice", "s1", [])


def make_verification(*findings: str) -> Verification:
    return Verification(
        set_id="s1", kind="drill", verified_at=NOW, passed=not findings, findings=findings, seconds=75.0
    )


def test_a_drill_that_passed_says_how_long_a_recovery_takes() -> None:
    text = render_drill(make_manifest(mongodb=False), make_verification(), 12.0, [])
    assert text.startswith("# Restore drill passed: invoice, set s1")
    assert "1 table, 7 entries" in text
    assert "Restored in 12 s; the whole drill took 1 min 15 s." in text
    assert "equals the manifest" in text


def test_a_drill_that_failed_names_each_difference_once() -> None:
    text = render_drill(make_manifest(mongodb=True), make_verification("x", "y"), 12.0, ["x"])
    assert text.startswith("# Restore drill FAILED")
    assert (text.count("- x"), text.count("- y")) == (1, 1)
    assert "equals" not in text


# --- history


def draw(summaries: list[SetSummary]) -> list[ET.Element]:
    markdown = chart_history(summaries, BERLIN)
    return [
        ET.fromstring(base64.b64decode(data))
        for data in re.findall(r"!\[[^]]+\]\(data:image/svg\+xml;base64,([^)]+)\)", markdown)
    ]


def texts(picture: ET.Element) -> list[str]:
    return ["".join(node.itertext()) for node in picture.iter("{http://www.w3.org/2000/svg}text")]


def bars(picture: ET.Element) -> int:
    rects = picture.iter("{http://www.w3.org/2000/svg}rect")
    return sum("rect" in node.get("class", "").split() and float(node.get("height", 0)) > 0 for node in rects)


def test_the_history_is_two_static_pictures() -> None:
    pictures = draw([make_set(place) for place in range(40)])
    assert [bars(picture) for picture in pictures] == [30, 30]
    for picture in pictures:
        assert picture.get("width") == "700"
        text = ET.tostring(picture, encoding="unicode")
        assert "<script" not in text
        assert "script>" not in text
        assert "@import" not in text
        assert not re.findall(r'(?:href|src)="', text)


def test_the_pictures_have_titles_units_and_few_dates() -> None:
    size, duration = (texts(picture) for picture in draw([make_set(place) for place in range(40)]))
    assert "Stored size, last 30 sets" in size
    assert "MB" in size
    assert "Duration, last 30 sets" in duration
    assert "seconds" in duration
    dates = [text for text in size if re.fullmatch(r"\d\d [A-Z][a-z]{2}", text)]
    assert dates[0] == "01 Dec"
    assert len(dates) == 6


def test_the_picture_shows_the_newest_sets_in_the_order_of_time() -> None:
    summaries = [make_set(place) for place in range(40)]
    assert texts(draw(summaries)[0]) == texts(draw(summaries[::-1])[0])


def test_failed_sets_are_told_apart_only_where_there_are_any() -> None:
    good = [make_set(place) for place in range(5)]
    assert "failed a verification" not in texts(draw(good)[0])
    assert "failed a verification" in texts(draw([*good, make_set(9, reread_passed=False)])[0])
    assert "failed a verification" in texts(draw([*good, make_set(9, drill_passed=False)])[0])


@pytest.mark.parametrize(
    ("changed", "units"),
    [
        ({"stored_bytes": 0, "seconds": 0.0}, ("kB", "seconds")),
        ({"stored_bytes": 5 * 10**12, "seconds": 90_000.0}, ("GB", "hours")),
        ({"stored_bytes": 1_900_000, "seconds": 180.0}, ("kB", "minutes")),
    ],
)
def test_one_set_of_any_size_can_be_drawn(changed: dict[str, Any], units: tuple[str, str]) -> None:
    for picture, unit in zip(draw([make_set(0, **changed)]), units, strict=True):
        assert unit in texts(picture)


def test_without_history_there_is_a_sentence() -> None:
    assert "no backup set yet" in chart_history([], BERLIN)
    assert "no backup set yet" in render_history("invoice", [], BERLIN)


def test_the_history_table_is_newest_first_in_the_services_time() -> None:
    rows = read_rows(render_history("invoice", [make_set(0, pinned=NASTY), make_set(1)], BERLIN))
    assert rows[1] == ["2026-11-22 02:00 CET", "10,482", "3.1 MB", "41 s", "passed", "not yet", "s1"]
    assert rows[2][-1] == f"s0, pinned: {' '.join(NASTY.split())}"


# --- publishing


@pytest.mark.usefixtures("prefect_server")
def test_what_is_published_has_the_key_of_its_service_and_says_what_it_is() -> None:
    manifest = make_manifest(mongodb=True)

    @flow
    def publish_everything() -> None:
        artifacts.publish_plan(make_plan())
        artifacts.publish_retention(make_retention(), applied=True)
        artifacts.publish_saved(manifest)
        artifacts.publish_history("invoice", [], BERLIN)
        artifacts.publish_findings("invoice", "s1", [])
        artifacts.publish_drill(manifest, make_verification(), 1.0, [])

    published = read_artifacts(publish_everything(return_state=True))
    assert {key: str(found.data).split("\n")[0] for key, found in published.items()} == {
        "nightly-backup-plan-invoice": "# Plan: invoice, set s3",
        "nightly-backup-retention-invoice": "# Retention: invoice",
        "nightly-backup-saved-invoice": "# Saved: invoice, set s1",
        "nightly-backup-history-invoice": "# Backups of invoice",
        "nightly-backup-findings-invoice": "# Findings: invoice, set s1",
        "restore-drill-verdict-invoice": "# Restore drill passed: invoice, set s1",
    }
    assert all(found.description for found in published.values())


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(
    ("pause", "expected"), [(0, [30.0, 30.0, 30.5, 99.5, 100.0]), (60, [0.0, 0.0, 0.0, 0.0, 100.0])]
)
def test_progress_goes_forward_to_its_end_never_back_and_with_pauses(
    pause: float, expected: list[float]
) -> None:
    shown: list[Any] = []

    @flow
    def make_progress() -> None:
        progress = artifacts.Progress("nightly-backup", "invoice", pause)
        progress.update(0.5)  # not started: shown nowhere
        progress.start("Saving invoice")
        for fraction in (0.3, 0.2, 0.305, 0.995, 1.7):
            progress.update(fraction)
            (artifact,) = read_artifacts_of_this_run()
            shown.append(artifact.data)

    published = read_artifacts(make_progress(return_state=True))
    assert published["nightly-backup-progress-invoice"].description == "Saving invoice"
    assert shown == expected


def read_artifacts_of_this_run() -> list[Artifact]:
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    return _filter_artifacts(context.flow_run.id)


def read_artifacts(state: State[Any]) -> dict[str, Artifact]:
    assert state.is_completed(), state
    assert state.state_details.flow_run_id is not None
    return {str(found.key): found for found in _filter_artifacts(state.state_details.flow_run_id)}


def _filter_artifacts(flow_run_id: UUID) -> list[Artifact]:
    with get_client(sync_client=True) as client:
        of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        return client.read_artifacts(artifact_filter=of_run)


def test_a_page_that_cannot_be_shown_is_in_the_log_and_ends_no_run(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def ask_nobody(*_: object, **__: object) -> object:
        """The run's own client tries for a minute before it ends so."""
        return httpx.post("http://127.0.0.1:9/api/artifacts/")

    for name in ("create_markdown_artifact", "create_progress_artifact"):
        monkeypatch.setattr(artifacts, name, ask_nobody)

    @flow
    def show() -> tuple[UUID, str]:
        shown = artifacts.publish_markdown("# What matters", "escalate", "ladder", "invoice")
        progress = artifacts.Progress("nightly-backup", "invoice")
        progress.start("Saving")
        progress.update(1.0)
        return shown, "went on"

    assert show() == (artifacts.NOWHERE, "went on")
    assert (
        "The page escalate-ladder-invoice could not be shown (ConnectError):\n# What matters" in caplog.text
    )
