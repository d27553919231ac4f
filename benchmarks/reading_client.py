"""Read documents by their ``_id``, in the order of chance, two hundred times a second, until told to end.

A process of its own, as a client is: in the one that measures, it would wait for that one's interpreter as
well. It takes a line of JSON (``url``, ``collection``, ``first``, ``last``), says that it is ready, and ends
with its input; then it prints when each read began and how long it took, in seconds.
"""

import json
import random
import sys
import threading
import time
from typing import Any, Final

from pymongo import MongoClient

PACE_SECONDS: Final = 0.005


def main() -> None:
    """Read as the line says."""
    asked = json.loads(sys.stdin.readline())
    chance, taken, ended = random.Random(asked["last"]), list[tuple[float, float]](), threading.Event()

    def await_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=await_end, daemon=True).start()
    with MongoClient[dict[str, Any]](asked["url"]) as client:
        documents = client.get_default_database()[asked["collection"]]
        documents.find_one()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while not ended.is_set():
            began = time.time()
            documents.find_one({"_id": chance.randrange(asked["first"], asked["last"])})
            taken.append((began, time.time() - began))
            ended.wait(PACE_SECONDS - (time.time() - began))
    json.dump(taken, sys.stdout)


if __name__ == "__main__":
    main()
