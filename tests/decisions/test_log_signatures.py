"""What lines of a log mean, line by line; and what all of them together say."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.decisions.log_report import conclude_log_report, find_deafness, make_log_report
from flows.decisions.log_signature_table import SIGNATURES
from flows.decisions.log_signatures import find_signature, meanings_of, recognize
from tasks.profiles import read_profile
from tasks.records.logs import Level, LogExtract, LogLine
from tasks.records.observation import Complaint

PROFILE = read_profile(Path(__file__).parents[2] / "deployments" / "services" / "invoice.yaml")
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SYNTAX = """/srv/invoice/server.js:5
  const x = ;
            ^

SyntaxError: Unexpected token ';'
    at wrapSafe (node:internal/modules/cjs/loader:1662:18)"""
MODULE = """node:internal/modules/cjs/loader:1228
  throw err;
  ^

Error: Cannot find module 'mongodb'
Require stack:
- /srv/invoice/server.js"""
# A line each as real programs write it, and its meanings.
LINES: tuple[tuple[str, set[str]], ...] = (
    ("400 Missing required fields: action, entityType, entityId", {"missing required fields"}),
    ("Access denied: User not found in organization", {"access denied"}),
    ("❌ Internal server error: boom", {"internal server error", "red cross"}),
    (
        "❌ Database connection failed: connect ECONNREFUSED 127.0.0.1:27017",
        {"database connection failed", "connection refused", "red cross"},
    ),
    ("connect ECONNREFUSED ::1:5432", {"connection refused"}),
    ("Error: Database not connected", {"database not connected"}),
    ("❌ Authentication failed for a@b.c", {"authentication failed", "red cross"}),
    ("❌ Authentication failed: invalid signature", {"authentication failed", "token refused", "red cross"}),
    ("⚠️ Slow request: GET /x took 1200ms", {"slow request"}),
    ("Email sent successfully", {"email sent"}),
    ("Email send failed: 535", {"email failed"}),
    ("✅ Payment marked as paid: pi_1", {"payment paid"}),
    ("❌ Stripe webhook signature verification failed", {"webhook signature", "red cross"}),
    (
        "❌ Server error: listen EADDRINUSE: address already in use 127.0.0.1:8080",
        {"port taken", "red cross"},
    ),
    ("Error: listen EADDRINUSE: address already in use :::5000", {"port taken"}),
    ("Error: EACCES: permission denied, open '/srv/invoice/.env'", {"no permission"}),
    ("ENOENT: no such file or directory, open 'x.json'", {"file missing"}),
    (MODULE, {"module missing"}),
    (SYNTAX, {"syntax error"}),
    (SYNTAX.rpartition("\n")[0], {"syntax error"}),
    ("SyntaxError: Unexpected token } in JSON at position 5\n    at JSON.parse (<anonymous>)", set()),
    (
        "❌ Environment variable errors: PORT is missing; JWT_SECRET is shorter",
        {"environment errors", "red cross"},
    ),
    ("connect ETIMEDOUT 10.0.0.1:5432", {"connection timed out"}),
    ("MongoServerSelectionError: Server selection timed out after 2000 ms", {"connection timed out"}),
    ("Connection terminated unexpectedly", {"connection broken"}),
    ("getaddrinfo ENOTFOUND db.example.com", {"unknown host"}),
    ("getaddrinfo EAI_AGAIN db", {"unknown host"}),
    ('password authentication failed for user "app"', {"authentication failed", "database password refused"}),
    ("error: SASL authentication failed", {"authentication failed", "database password refused"}),
    ("MongoServerError: Authentication failed.", {"authentication failed", "database password refused"}),
    ("sorry, too many clients already", {"too many connections"}),
    ("remaining connection slots are reserved for roles", {"too many connections"}),
    ('database "books" does not exist', {"database missing"}),
    ("the database system is starting up", {"database starting"}),
    ("canceling statement due to lock timeout", {"lock timeout"}),
    ("ENOSPC: no space left on device, write", {"disk full"}),
    ("EMFILE: too many open files", {"too many files"}),
    ("FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory", {"out of memory"}),
    ("Out of memory: Killed process 4711 (node) total-vm:1kB", {"out of memory"}),
    ("Killed", {"out of memory"}),
    ("JsonWebTokenError: jwt malformed", {"token refused"}),
    ("TokenExpiredError: jwt expired", {"token expired"}),
    ("Error: secretOrPrivateKey must have a value", {"token secret missing"}),
    ("Error: certificate has expired", {"certificate"}),
    ("❌ Firebase Error: FIREBASE_PRIVATE_KEY is not a PEM private key", {"firebase error", "red cross"}),
    ("StripeAuthenticationError: Invalid API Key provided: ***", {"stripe refused"}),
    ("StripeConnectionError: socket hang up", {"upstream failed", "connection broken"}),
    ("(node:1) UnhandledPromiseRejectionWarning: x", {"unhandled"}),
    ('Script /x/server.js had too many unstable restarts (5). Stopped. "errored"', {"gave up restarting"}),
    ("App [invoice-backend:0] exited with code [1] via signal [SIGINT]", {"process ended"}),
    ("Server running on port 8080", set()),
    ("GET /api/payments 200 12 ms", set()),
)


def line(text: str, level: Level = "info", at: datetime | None = NOON) -> LogLine:
    return LogLine(at=at, source="out.log", level=level, text=text)


def extract(*lines: LogLine, unreadable: tuple[Complaint, ...] = ()) -> LogExtract:
    return LogExtract(since=NOON, sources=("out.log",), lines=lines, unreadable=unreadable)


@pytest.mark.parametrize(("text", "names"), LINES, ids=[text[:40] for text, _ in LINES])
def test_a_line_means_what_it_means_and_nothing_else(text: str, names: set[str]) -> None:
    assert {found.name for found in meanings_of(text)} == names


def test_every_signature_is_met_by_a_line_above_and_has_a_name_of_its_own() -> None:
    names = [signature.name for signature in SIGNATURES]
    assert len(names) == len(set(names))
    assert set(names) == {name for _, met in LINES for name in met}
    assert all(signature.meaning.endswith(".") for signature in SIGNATURES)


lines_of_logs = st.lists(
    st.builds(
        line,
        st.sampled_from([text for text, _ in LINES]) | st.text(max_size=40),
        st.sampled_from(["error", "warning", "info"]),
        st.none() | st.integers(0, 3600).map(lambda seconds: NOON + timedelta(seconds=seconds)),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(lines_of_logs)
def test_counts_add_up(lines: list[LogLine]) -> None:
    facts = recognize(extract(*lines), PROFILE)
    assert facts.errors == sum(found.level == "error" for found in lines)
    assert sum(found.count for found in facts.signatures) == sum(len(meanings_of(one.text)) for one in lines)
    for found in facts.signatures:
        same = [one for one in lines if find_signature(found.name) in meanings_of(one.text)]
        times = [one.at for one in same if one.at is not None]
        assert found.count == len(same)
        assert (found.first, found.last) == ((min(times), max(times)) if times else (None, None))
        assert found.example == same[-1].text
    errors = [one.text for one in lines if one.level == "error"]
    assert list(facts.last_words) == errors[-10:]


@settings(deadline=None)
@given(lines_of_logs, st.sampled_from(["error", "warning", "info"]), st.sampled_from(["", "database", "x"]))
def test_a_report_lists_only_what_was_asked_for_and_nothing_that_was_not_read(
    lines: list[LogLine], level: Level, containing: str
) -> None:
    whole = extract(*lines)
    report = make_log_report(whole, PROFILE, NOON, level=level, containing=containing)
    assert all(containing in one.text.lower() for one in report.lines)
    assert {one.text for one in report.lines} <= {one.text for one in lines}
    assert len(report.lines) + report.more <= len(lines)
    assert conclude_log_report(report).startswith("invoice: ")


def test_the_last_start_counts_and_firebase_with_it() -> None:
    started, firebase = "Server running on port 8080", "✅ Firebase Messaging initialized successfully"
    wrong = "❌ Firebase Error: Firebase variables are not set"
    at = [NOON + timedelta(minutes=minute) for minute in range(60)]

    facts = recognize(extract(line(firebase, at=at[0]), line(started, at=at[0])), PROFILE)
    assert (facts.started_at, facts.firebase_started) == (at[0], True)

    again = (
        line(firebase, at=at[0]),
        line(started, at=at[0]),
        line(wrong, "error", at[9]),
        line(started, at=at[9]),
    )
    facts = recognize(extract(*again), PROFILE)
    assert (facts.started_at, facts.firebase_started) == (at[9], False)

    assert recognize(extract(line(firebase)), PROFILE).firebase_started is None
    without = PROFILE.model_copy(update={"firebase": None})
    assert recognize(extract(line(firebase), line(started)), without).firebase_started is None


def test_that_nothing_could_be_read_is_not_that_nothing_is_wrong() -> None:
    complaint = Complaint(name="out.log", problem="could not be read: x")
    assert "out.log could not be read" in (find_deafness(extract(unreadable=(complaint,))) or "")
    assert "names no log" in (find_deafness(LogExtract(since=NOON, sources=())) or "")
    assert find_deafness(extract()) is None
    assert find_deafness(extract(line("x"), unreadable=(complaint,))) is None
