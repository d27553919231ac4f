"""What a process manager says of the application."""

from pydantic import BaseModel, ConfigDict


class ProcessStatus(BaseModel):
    """Whether all of the application runs, or nothing of it; ``detail`` says what the manager says of it."""

    model_config = ConfigDict(frozen=True)

    running: bool
    stopped: bool
    detail: str
