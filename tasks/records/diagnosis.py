"""What evidence means: causes, ranked, each with why and what to do; and what happened when."""

from datetime import datetime
from typing import Literal

from tasks.records.observation import Record
from tasks.records.outage_care import Remedy

Certainty = Literal["proven", "likely", "possible"]
Verdict = Literal["healthy", "degraded", "broken", "unknown"]


class Cause(Record):
    """Something that is wrong. ``evidence`` are sentences, the strongest first."""

    name: str
    """The rule's name, as "disk full"; what a person searches the docs for."""
    title: str
    """One sentence that names what exactly: the variable, the process, the disk."""
    certainty: Certainty
    evidence: tuple[str, ...]
    row: str
    """The runbook row, as "I14"."""
    advice: str
    """What a person does about it, one or two sentences."""
    remedy: Remedy | None = None
    """What we can do about it ourselves."""
    target: str = ""
    """What exactly the remedy acts on: a process id and its start, session identities."""
    since: datetime | None = None
    explained_by: str | None = None
    """The cause that this one follows from; it then is a consequence, and never ranks before it."""


class TimelineEntry(Record):
    """Something that happened, by what says so."""

    at: datetime
    what: str
    source: str


class Diagnosis(Record):
    """What is wrong with a service: ``causes`` by rank, then ``consequences`` of them."""

    service: str
    at: datetime
    verdict: Verdict
    headline: str
    """What is broken and since when, one sentence for a tired person."""
    causes: tuple[Cause, ...]
    consequences: tuple[Cause, ...] = ()
    notes: tuple[str, ...] = ()
    """What is no cause, but worth a word, as a certificate that ends in nine days."""
    unobserved: tuple[str, ...] = ()
    """What could not be observed, a sentence each: a cause may hide there."""
    timeline: tuple[TimelineEntry, ...] = ()

    @property
    def fingerprint(self) -> str:
        """What makes two diagnoses the same for remediation: the causes and what they would act on."""
        return "; ".join(sorted(f"{cause.name}: {cause.target}" for cause in self.causes))
