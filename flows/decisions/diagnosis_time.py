"""Causes in time: certificates that end, clocks that differ."""

import statistics
from datetime import timedelta

from flows.decisions.diagnosis_reading import Finding, Rule, known, say_moment, say_names
from tasks.records.evidence import ClockReading, Evidence
from tasks.records.figures import say_duration
from tasks.records.service import ServiceProfile

_FEWEST_WITNESSES = 2


def read_expired(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Has the certificate ended?"""
    found = known(evidence.certificate)
    if found is None or found.ends_at is None or found.ends_at > evidence.at:
        return None
    return Finding(
        f"The certificate of {found.where} has expired.",
        (
            f"It ended at {say_moment(found.ends_at, evidence, profile)}.",
            *((found.problem,) if found.problem else ()),
        ),
        since=found.ends_at,
        hurts=evidence.health.answers[-1].failure == "tls",
    )


def read_wrong_certificate(evidence: Evidence, _profile: ServiceProfile) -> Finding | None:
    """Does a client refuse the certificate for another reason?"""
    found = known(evidence.certificate)
    if found is None or found.problem is None:
        return None
    if found.ends_at is not None and found.ends_at <= evidence.at:
        return None
    return Finding(
        f"Clients refuse the certificate of {found.where}.",
        (found.problem,),
        hurts=evidence.health.answers[-1].failure == "tls",
    )


def find_ending(evidence: Evidence, profile: ServiceProfile) -> str | None:
    """Return the sentence that the certificate ends soon, if it does."""
    found = known(evidence.certificate)
    if found is None or found.ends_at is None or found.ends_at <= evidence.at:
        return None
    left = found.ends_at - evidence.at
    if left > timedelta(days=profile.outage.certificate_days):
        return None
    return f"The certificate of {found.where} ends in {say_duration(left.total_seconds())}: renew it."


def read_clocks(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Do the clocks differ, and whose is the odd one?"""
    tolerance = profile.outage.clock_tolerance.total_seconds()
    readings = (*(known(evidence.clocks) or ()), *_read_database(evidence, tolerance))
    off = [reading for reading in readings if _is_off(reading, tolerance)]
    if not off:
        return None
    said = tuple(_say_reading(reading) for reading in readings)
    middle = statistics.median(reading.seconds for reading in off)
    agreeing = [
        reading for reading in off if abs(reading.seconds - middle) <= tolerance + reading.uncertainty
    ]
    if len(agreeing) >= _FEWEST_WITNESSES and len(agreeing) > len(readings) / 2:
        way = "slow" if middle > 0 else "fast"
        return Finding(
            f"This host's clock is {say_duration(abs(middle))} {way}.",
            said,
            explains=(
                "certificate expired",
                "certificate refused",
                "firebase credentials bad",
                "public way broken",
            ),
        )
    sources = say_names(reading.source for reading in off)
    if len(off) < len(readings):
        return Finding(f"The clock of {sources} is wrong.", said, certainty="likely")
    return Finding(
        f"The clocks of this host and of {sources} differ: which one is wrong cannot be told.",
        said,
        certainty="likely",
    )


def _read_database(evidence: Evidence, tolerance: float) -> tuple[ClockReading, ...]:
    """Return the database's clock if it is off: else one on this host would vouch for our wrong one."""
    database = known(evidence.database)
    reading = database.clock if database is not None else None
    return () if reading is None or not _is_off(reading, tolerance) else (reading,)


def _is_off(reading: ClockReading, tolerance: float) -> bool:
    return abs(reading.seconds) - reading.uncertainty > tolerance


def _say_reading(reading: ClockReading) -> str:
    way = "ahead of" if reading.seconds > 0 else "behind"
    return (
        f"The clock of {reading.source} is {say_duration(abs(reading.seconds))} {way} this host's, "
        f"give or take {say_duration(reading.uncertainty)}."
    )


RULES: tuple[Rule, ...] = (
    Rule(
        "clock skew",
        "I33",
        "outside",
        read_clocks,
        proof="clocks differ by more than `outage.clock_tolerance`; this host's is wrong if others agree",
        advice="Let the wrong host's time service run again (chrony, systemd-timesyncd, w32time).",
        kind="impairment",
    ),
    Rule(
        "certificate expired",
        "I9",
        "outside",
        read_expired,
        proof="the end that the certificate names is over",
        advice="Renew the certificate and let the proxy read it anew; then see why renewal failed.",
        explains=("public way broken", "certificate refused"),
        kind="impairment",
    ),
    Rule(
        "certificate refused",
        "I9",
        "outside",
        read_wrong_certificate,
        proof="a client that checks refuses it, and it has not ended: wrong name, chain or authority",
        advice="Install the certificate of that name with its whole chain.",
        explains=("public way broken",),
        kind="impairment",
    ),
)
