"""The process that carries out the sandbox's orders to PM2, one after the other: see ``pm2_orders.js``."""

import json
import select
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from deployments.sandbox.errors import SandboxError

PROGRAM = Path(__file__).with_suffix(".js")
ORDER_SECONDS = 30


class PM2Orders:
    """Starts with the first order and ends with whoever gives them."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()

    def carry_out(self, node: Sequence[str], environment: Mapping[str, str], words: Sequence[str]) -> str:
        """Given how to run Node.js and the words that follow `pm2`, return what PM2 said.

        Raises:
            SandboxError: PM2 refuses, or takes longer than half a minute.
        """
        with self._turn:
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    [*node, str(PROGRAM)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=environment,
                    cwd="/",
                )
            line = self._exchange(self._process, json.dumps(words).encode() + b"\n")
            if line is None:
                self._end()
                raise SandboxError(f"pm2 {words[0]} did not finish in {ORDER_SECONDS} s.")
        if not line:
            raise SandboxError(f"pm2 {words[0]} ended without an answer.")
        answer = json.loads(line)
        said: str = answer["said"]
        if not answer["worked"]:
            raise SandboxError(f"pm2 {words[0]} failed: {' '.join(said.split())}")
        return said

    def end(self) -> None:
        """End the process; the next order starts another."""
        with self._turn:
            self._end()

    @staticmethod
    def _exchange(process: subprocess.Popen[bytes], order: bytes) -> bytes | None:
        """Return the answer's line, none of it if the process ended, None if there is none in time."""
        orders, answers = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        try:
            orders.write(order)
            orders.flush()
        except BrokenPipeError:
            return b""
        ready, _, _ = select.select([answers], [], [], ORDER_SECONDS)
        return answers.readline() if ready else None

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
