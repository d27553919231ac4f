"""What every record of an observation is, and how it is said that one could not be made."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Facts of one moment: frozen, and without a field that nobody knows."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Unknown(Record):
    """An observation that could not be made; ``why`` is the end of a sentence, without a full stop."""

    why: str


class Complaint(Record):
    """Something that is wrong with one thing, which is named: a variable, a file, a package."""

    name: str
    problem: str
    """The end of a sentence that begins with the name, as "is missing"."""
