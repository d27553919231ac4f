"""Causes that no health check notices: Firebase, tokens, upstreams, certificates, clocks."""

from flows.decisions.diagnosis_reading import Finding, Rule, known, say_changed, say_names, suffers
from tasks.records.evidence import Evidence, UpstreamFacts
from tasks.records.figures import say_count
from tasks.records.service import ServiceProfile

ONLY_SOMETIMES = "healthy only sometimes"
# So many outside things must be away together to suspect the way to them.
_FEWEST_OUTSIDE = 2


def read_firebase(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Do Firebase's credentials not work?"""
    found = known(evidence.firebase)
    if found is None or found.credentials in {"accepted", "unreachable"}:
        return None
    said = {"refused": "are refused", "malformed": "are malformed", "not set": "are not set"}
    section = profile.firebase
    names = (section.project_variable, section.email_variable, section.key_variable) if section else ()
    problem = found.problem or f"Firebase's credentials {said[found.credentials]}."
    return Finding(
        f"Firebase's credentials {said[found.credentials]}: no push message is sent.",
        (problem, *say_changed(evidence, *names)),
    )


def read_firebase_away(evidence: Evidence, _profile: ServiceProfile) -> Finding | None:
    """Does Firebase's token endpoint not answer?"""
    found = known(evidence.firebase)
    if found is None or found.credentials != "unreachable":
        return None
    return Finding(
        "Firebase does not answer: no push message is sent.",
        (found.problem or "Its token endpoint does not answer.",),
        certainty="likely",
    )


def read_jwt_changed(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Is the secret that tokens are signed with another one than before?"""
    name = profile.application.jwt_secret_variable
    found, environment = known(evidence.authentication), known(evidence.environment)
    changed = (found is not None and bool(found.secret_changed)) or bool(say_changed(evidence, name))
    refused = found is not None and found.token_verifies is False
    if not changed and not refused:
        return None
    said = (f"{name} is not what it was when the service was healthy last.",) if changed else ()
    running = (
        (f"A token that the application gave a moment ago is not signed with {name} of the env file.",)
        if refused
        else ()
    )
    return Finding(
        f"{name} changed: everybody who was logged in is logged out"
        + (", at the latest with the next restart." if refused else "."),
        (*said, *running),
        since=environment.modified_at if environment is not None else None,
    )


def read_login(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Can the probe's user not log in, though the service is healthy?"""
    found = known(evidence.authentication)
    if found is None or found.login in {"works", "not probed"} or suffers(evidence, profile):
        return None
    login = profile.application.login
    user = login.user if login is not None else "its user"
    return Finding(
        "The service is healthy, but the probe's user cannot log in.",
        (found.login_problem or f"The login of {user}: {found.login}.",),
        certainty="proven" if found.login == "refused" else "likely",
    )


def read_upstreams_down(evidence: Evidence, _profile: ServiceProfile) -> Finding | None:
    """Which upstreams are down?"""
    down = [found for found in known(evidence.upstreams) or () if found.state == "down"]
    if not down:
        return None
    return Finding(
        f"{say_names(found.name for found in down)} {'are' if down[1:] else 'is'} down, as seen from here.",
        tuple(_say_upstream(found) for found in down),
    )


def read_upstreams_refusing(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Which upstreams refuse the application's key?"""
    refusing = [found for found in known(evidence.upstreams) or () if found.state == "refuses the key"]
    if not refusing:
        return None
    names = {found.name for found in refusing}
    variables = [up.bearer_variable for up in profile.upstreams if up.name in names and up.bearer_variable]
    key = f" in {say_names(variables)}" if variables else ""
    return Finding(
        f"{say_names(found.name for found in refusing)} refuses the key{key}.",
        (*(_say_upstream(found) for found in refusing), *say_changed(evidence, *variables)),
    )


def read_no_way_out(evidence: Evidence, _profile: ServiceProfile) -> Finding | None:
    """Is everything outside away at once?"""
    upstreams, firebase = known(evidence.upstreams) or (), known(evidence.firebase)
    away = [found.state == "down" for found in upstreams]
    if firebase is not None and firebase.credentials in {"accepted", "refused", "unreachable"}:
        away.append(firebase.credentials == "unreachable")
    if len(away) < _FEWEST_OUTSIDE or not all(away):
        return None
    return Finding(
        "Nothing outside answers: this host's way to the internet is likely broken.",
        tuple(_say_upstream(found) for found in upstreams) or ("Firebase does not answer.",),
        certainty="likely",
    )


def read_public_way(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Is it healthy here, and not where its users are?"""
    found = known(evidence.public_health)
    if found is None or found.problem is None or suffers(evidence, profile):
        return None
    answer = found.answers[-1]
    return Finding(
        "The service is healthy on its host, but not where its users reach it.",
        (f"Asked at {answer.url}: {answer.problem}.",),
        certainty="likely",
    )


def read_some_answers(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Does it say that it is ill now and then, as one of several processes does?"""
    answers = evidence.health.answers
    # What is refused or late may be a restart, or a busy host.
    ill = [answer for answer in answers if answer.problem is not None and answer.status_code is not None]
    if not ill or suffers(evidence, profile):
        return None
    often = f"{len(ill)} of {say_count(len(answers), 'answer')}"
    return Finding(
        f"{profile.application.process_name} is healthy only sometimes: {often} said otherwise.",
        (f"Asked at {ill[0].url}: {ill[0].problem}.",),
    )


def _say_upstream(found: UpstreamFacts) -> str:
    said = (found.problem or f"it is {found.state}").removesuffix(".")
    return f"{found.name} at {found.where}: {said}."


RULES: tuple[Rule, ...] = (
    Rule(
        "no way out",
        "I33",
        "outside",
        read_no_way_out,
        proof="all upstreams, and Firebase, are away at once",
        advice="Check this host's network, name server, proxy and firewall.",
        explains=("upstream down", "firebase unreachable"),
        kind="impairment",
    ),
    Rule(
        "jwt secret changed",
        "I16",
        "outside",
        read_jwt_changed,
        proof="the secret's fingerprint is not that of the last healthy moment, or a new token is not signed "
        "with it",
        advice="If nobody meant to change it, put the old secret back and restart. If somebody did, users "
        "log in anew.",
        explains=("login broken",),
        kind="impairment",
    ),
    Rule(
        "firebase credentials bad",
        "I10",
        "outside",
        read_firebase,
        proof="the token endpoint refuses the service account of the env file, or it is malformed or not set",
        advice="Put a valid service account key into the env file, from the Firebase console, and restart.",
        kind="impairment",
    ),
    Rule(
        "firebase unreachable",
        "I10",
        "outside",
        read_firebase_away,
        proof="the token endpoint does not answer",
        advice="Check the network from this host; then Google's status page.",
        kind="impairment",
    ),
    Rule(
        "upstream refuses the key",
        "P19",
        "outside",
        read_upstreams_refusing,
        proof="the upstream answers 401 to the key of the env file",
        advice="Put the current key into the env file and restart; if nobody changed it, it was revoked.",
        kind="impairment",
    ),
    Rule(
        "upstream down",
        "P19",
        "outside",
        read_upstreams_down,
        proof="the upstream does not answer, or answers with an error of its own",
        advice="See its status page; tell users what does not work meanwhile. A restart does not help.",
        kind="impairment",
    ),
    Rule(
        "public way broken",
        "I33",
        "outside",
        read_public_way,
        proof="the health URL answers, and the public one does not",
        advice="Look at the proxy in front of it, its certificate, and the name server.",
        kind="impairment",
    ),
    Rule(
        ONLY_SOMETIMES,
        "I9",
        "outside",
        read_some_answers,
        proof="of the answers of one triage the last says that it is healthy, and another does not",
        advice="Ask each process: one of several is ill. See its log, and restart-service.",
        kind="impairment",
    ),
    Rule(
        "login broken",
        "I16",
        "outside",
        read_login,
        proof="the service is healthy, and the probe's login is refused",
        advice="Check that the probe's user exists and its password is the reference's; see auth-triage.",
        kind="impairment",
    ),
)
