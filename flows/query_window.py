"""For how long queries are watched, and what was seen by then."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from flows.decisions.query_shapes import ShapeCollector
from tasks.artifacts import Progress


@dataclass
class Watched:
    """What was seen of a window; ``how`` says by what means, ``proof`` how the server was left."""

    how: str
    collector: ShapeCollector = field(default_factory=ShapeCollector)
    notes: list[str] = field(default_factory=list)
    proof: str = ""


@dataclass(frozen=True)
class Window:
    """For how long which queries are watched."""

    seconds: float
    slow_milliseconds: int
    progress: Progress

    def pass_by(self, look: Callable[[], object], every: float) -> None:
        """Let the window pass, with a look after each step."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < self.seconds:
            time.sleep(min(every, self.seconds - passed))
            look()
            self.progress.update((time.monotonic() - began) / self.seconds)
