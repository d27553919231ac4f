"""What the watch finds wrong, and how a sentence is known again."""

import re
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Complaint:
    """Something that is wrong; the same ``key`` is the same thing, however its sentence has changed."""

    key: str
    sentence: str

    @classmethod
    def of(cls, sentence: str) -> Self:
        """Return a complaint that is the same when nothing but its figures has changed."""
        return cls(re.sub(r"\d+( [a-z]+)?( \d+ [a-z]+)*", "#", sentence), sentence)
