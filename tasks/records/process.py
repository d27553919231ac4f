"""What a process manager says of the application."""

from pydantic import BaseModel, ConfigDict


class ProcessStatus(BaseModel):
    """``running`` is whether all of the application runs; ``detail`` says what the manager says of it."""

    model_config = ConfigDict(frozen=True)

    running: bool
    detail: str
