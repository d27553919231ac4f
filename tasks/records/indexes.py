"""An index as its server knows it."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class IndexFacts(BaseModel):
    """One index of a collection or table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    name: str
    keys: tuple[tuple[str, str], ...]
    """Fields, columns or expressions in order, each with ``1``, ``-1`` or its kind (``2d``, ``gin``)."""
    unique: bool = False
    is_constraint: bool = False
    """Whether it is a primary key or a constraint's: it is not ours to drop."""
    is_valid: bool = True
    """False for what a failed concurrent build left: it costs, and serves nobody."""
    special: str = ""
    """What else makes it another than its keys say, as the server has it: partial, sparse, TTL, collation."""
    bytes: int = 0
    uses: int | None = None
    """How often it was used since ``uses_since``; None where the server does not count."""
    uses_since: datetime | None = None
