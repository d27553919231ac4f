"""A decision that says no. Flows raise it as ``RefusedError``; decisions only return it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not, and what to do instead: a sentence for the operator."""

    reason: str
