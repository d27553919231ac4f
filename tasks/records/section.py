"""What every section of a service profile is: frozen, and without a field that nobody knows."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Names a secret without holding it: a variable, a private file, or a Prefect Secret block.
Reference = Annotated[str, Field(pattern=r"^(env|file|block):.+$")]


class Section(BaseModel):
    """A part of a service profile."""

    model_config = ConfigDict(extra="forbid", frozen=True)
