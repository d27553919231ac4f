"""The table of what lines of a log mean. To know another kind of line is one entry here, and one test."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Signature:
    """A kind of line, and what such lines mean.

    ``words``, in lower case: only a line with one of them is looked at, because patterns take their time.
    """

    name: str
    row: str
    meaning: str
    words: tuple[str, ...]
    pattern: re.Pattern[str]


def _signature(name: str, row: str, meaning: str, words: str, pattern: str) -> Signature:
    return Signature(
        name, row, meaning, tuple(words.lower().split("|")), re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    )


SLOW_REQUEST = "slow request"
FIREBASE_ERROR = "firebase error"
# What Node.js writes before the error: where, the line itself, and a mark below it.
_WHERE = r"^(?:file://)?(?:/|[A-Za-z]:)[^\n():]+:\d+\n(?:[^\n]*\n){0,8}?[^\n]*?"

SIGNATURES: tuple[Signature, ...] = (
    # What the runbooks know.
    _signature(
        "missing required fields",
        "I18",
        "The application answered 400: a client left a field out.",
        "missing required fields",
        r"missing required fields",
    ),
    _signature(
        "access denied",
        "I18",
        "The application answered 403: a user asked for what is not theirs.",
        "access denied: ",
        r"access denied: (?:user not found in organization|role\b)",
    ),
    _signature(
        "internal server error",
        "I18",
        "The application answered 500.",
        "internal server error",
        r"internal server error",
    ),
    _signature(
        "database connection failed",
        "I15",
        "The application does not get to its database.",
        "database connection|database health check failed",
        r"database (?:connection failed|health check failed|connection lost)",
    ),
    _signature(
        "database not connected",
        "I15",
        "The application was asked for something before it had its database.",
        "database not connected",
        r"database not connected",
    ),
    _signature(
        "authentication failed",
        "I16",
        "A login, a token or the application's own password was refused.",
        "authentication failed",
        r"authentication failed",
    ),
    _signature(
        SLOW_REQUEST,
        "P15",
        "A request took longer than the application finds right.",
        "slow request",
        r"slow request\b",
    ),
    _signature("email sent", "P11", "An e-mail went out.", "email sent", r"email sent successfully"),
    _signature(
        "email failed",
        "P11",
        "An e-mail did not go out.",
        "email send failed|email config error",
        r"email send failed|email config error",
    ),
    _signature(
        "payment paid", "P10", "A payment was confirmed.", "payment marked as paid", r"payment marked as paid"
    ),
    _signature(
        "webhook signature",
        "P9",
        "A webhook is not signed with the secret that the application has.",
        "webhook signature|stripesignature|no signatures found",
        r"webhook signature verification failed|StripeSignatureVerificationError|no signatures found",
    ),
    _signature("red cross", "P15", "The application marks the line as an error.", "❌", r"❌"),
    # How a start ends.
    _signature(
        "port taken",
        "I14",
        "Another process listens on the application's port.",
        "eaddrinuse",
        r"EADDRINUSE",
    ),
    _signature(
        "no permission",
        "I14",
        "The application's user may not do what it has to with a file or a port.",
        "eacces|eperm",
        r"\b(?:EACCES|EPERM)\b",
    ),
    _signature("file missing", "I14", "A file is not there.", "enoent", r"\bENOENT\b"),
    _signature(
        "module missing",
        "I14",
        "A dependency is not installed, or a file of the program is not there.",
        "cannot find |module_not_found",
        r"Cannot find (?:module|package) '[^'\n]+'|MODULE_NOT_FOUND",
    ),
    _signature(
        "syntax error",
        "I14",
        "A file of the program cannot be parsed.",
        "syntaxerror",
        rf"{_WHERE}SyntaxError: [^\n]+"
        # One that a request's body causes comes from elsewhere.
        r"|SyntaxError: [^\n]+\n(?:[^\n]*\n){0,20}?[^\n]*(?:wrapSafe|node:internal/modules)",
    ),
    _signature(
        "environment errors",
        "I14",
        "The application refuses its env file.",
        "environment variable error",
        r"environment variable errors?: [^\n]+",
    ),
    # Drivers and the network.
    _signature(
        "connection refused",
        "I15",
        "Nothing listens where the application connects to.",
        "econnrefused",
        r"ECONNREFUSED",
    ),
    _signature(
        "connection timed out",
        "I15",
        "What the application connects to does not answer.",
        "timedout|timed out|timeout exceeded|connection timeout",
        r"\bE(?:SOCKET)?TIMEDOUT\b|Server selection timed out|connection timeout"
        r"|timeout exceeded when trying to connect|\bconnect(?:ion)? timed out",
    ),
    _signature(
        "connection broken",
        "I15",
        "A connection was cut off in the middle.",
        "econnreset|epipe|connection terminated|socket hang up|connection closed",
        r"\bECONNRESET\b|\bEPIPE\b|Connection terminated unexpectedly|socket hang up"
        r"|connection \d+ to \S+ closed",
    ),
    _signature(
        "unknown host",
        "I15",
        "A host's name cannot be found.",
        "enotfound|eai_again",
        r"\b(?:ENOTFOUND|EAI_AGAIN)\b",
    ),
    _signature(
        "database password refused",
        "I15",
        "The database refuses the application's user or password.",
        'authentication failed|bad auth|pg_hba|code: 18|code 18|role "',
        r"password authentication failed for user|SASL authentication failed|no pg_hba\.conf entry"
        r"|\bbad auth\b|\bcode:? 18\b|(?:Mongo\w*Error|Database connection failed): Authentication failed"
        r"|role \"[^\"\n]+\" does not exist",
    ),
    _signature(
        "too many connections",
        "P17",
        "The database has no connection left.",
        "too many clients|too many connections|connection slots|connection limit|no more connections",
        r"too many clients already|too many connections|remaining connection slots are reserved"
        r"|connection limit exceeded|no more connections allowed",
    ),
    _signature(
        "database missing",
        "I15",
        "The server has no such database.",
        "does not exist",
        r"\bdatabase \"[^\"\n]+\" does not exist",
    ),
    _signature(
        "database starting",
        "I15",
        "The database was starting or stopping.",
        "the database system is|not yet accepting",
        r"the database system is (?:starting up|shutting down|in recovery)|not yet accepting connections",
    ),
    _signature(
        "lock timeout",
        "P18",
        "A query waited too long for what another one holds.",
        "timeout|deadlock|writeconflict",
        r"canceling statement due to (?:lock|statement) timeout|deadlock detected|LockTimeout|WriteConflict",
    ),
    # The host.
    _signature(
        "disk full",
        "I32",
        "A disk is full.",
        "enospc|no space left|could not extend file|edquot",
        r"\bENOSPC\b|no space left on device|could not extend file|\bEDQUOT\b",
    ),
    _signature(
        "too many files",
        "I14",
        "So many files may not be open.",
        "emfile|enfile|too many open files",
        r"\bE[MN]FILE\b|too many open files",
    ),
    _signature(
        "out of memory",
        "I32",
        "The application or its host has no memory left.",
        "heap|out of memory|oom-kill|cannot allocate|enomem|killed",
        r"JavaScript heap out of memory|Reached heap limit|\boom-kill|\bCannot allocate memory\b|\bENOMEM\b"
        r"|Out of memory: Killed process \d+|^Killed$",
    ),
    # Tokens, certificates, and what is outside.
    _signature(
        "token refused",
        "I16",
        "A token is not signed with the secret that the application has.",
        "jsonwebtokenerror|invalid signature|jwt ",
        r"JsonWebTokenError|\binvalid signature\b|\bjwt (?:malformed|must be provided|signature is required)",
    ),
    _signature(
        "token expired",
        "I16",
        "A token is too old: its user logs in again.",
        "tokenexpirederror|jwt expired",
        r"TokenExpiredError|\bjwt expired\b",
    ),
    _signature(
        "token secret missing",
        "I16",
        "The application has no secret for its tokens.",
        "secretorprivatekey|secret or public key",
        r"secretOrPrivateKey must have a value|secret or public key must be provided",
    ),
    _signature(
        "certificate",
        "I9",
        "A certificate is not to be trusted.",
        "certificate|cert_|self_signed|unable_to_",
        r"CERT_HAS_EXPIRED|certificate has expired|UNABLE_TO_(?:VERIFY_LEAF_SIGNATURE|GET_ISSUER_CERT)"
        r"|SELF_SIGNED_CERT|self[- ]signed certificate|ERR_TLS_CERT_ALTNAME_INVALID|CERT_NOT_YET_VALID"
        r"|unable to (?:verify the first|get local issuer) certificate",
    ),
    _signature(
        FIREBASE_ERROR,
        "I10",
        "Firebase Messaging does not work.",
        "firebase error|messaging/|app/invalid",
        r"firebase error|messaging/(?:authentication|invalid-credential|third-party)"
        r"|app/invalid-credential",
    ),
    _signature(
        "stripe refused",
        "P9",
        "Stripe refuses the application's key.",
        "stripeauthentication|invalid api key",
        r"StripeAuthenticationError|Invalid API Key provided",
    ),
    _signature(
        "upstream failed",
        "P9",
        "Something outside that the application needs does not answer well.",
        "stripeconnection|stripeapi|502 bad gateway|503 service",
        r"StripeConnectionError|StripeAPIError|502 Bad Gateway|503 Service Unavailable",
    ),
    # How it ends.
    _signature(
        "unhandled",
        "I14",
        "The application has an error that it does not handle.",
        "unhandled|uncaught",
        r"unhandled ?(?:promise ?)?rejection|uncaught ?exception",
    ),
    _signature(
        "gave up restarting",
        "I14",
        "PM2 does not start the application any more.",
        "too many unstable restarts",
        r"too many unstable restarts",
    ),
    _signature(
        "process ended",
        "I14",
        "The application's process ended.",
        "exited with code|main process exited",
        r"exited with code \[\d+\]"
        r"|Main process exited, code=\w+, status=[^\s,]+",
    ),
)
