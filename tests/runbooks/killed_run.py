"""Runs one flow in a process of its own, and takes it away at the moment it is told. Not a test.

``ORDER`` (JSON) says: ``services``, ``api``, ``flow``, ``parameters``, ``answer`` (the file for its end), and

- ``pm2_home``: where the PM2 is that the services' applications are under;
- ``kill_before``: SIGKILL just before the n-th change of the store (counted from 1);
- ``kill_within``: SIGKILL in the middle of writing the n-th object;
- ``kill_when_called``: "module:function", SIGKILL when that is called;
- ``kill_before_task``: SIGKILL just before the n-th task run begins;
- ``kill_after_journal``: SIGKILL just after the n-th line of the journal is on the disk;
- ``kill_after_step``: SIGKILL just after the first line of that step is on the disk;
- ``pause_before``: wait before the n-th change of the store until the test lets it go on;
- ``pause_when_called``: wait when "module:function" is called until the test lets it go on;
- ``set``: "module:NAME" to the value that it has in the run;
- ``go``: the file that lets it go on;
- ``retry_seconds``: wait so long between the tries of a task.
"""

import gc
import importlib
import io
import itertools
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.task_engine import SyncTaskRunEngine
from prefect.tasks import Task

from tasks.journal import Journal
from tasks.object_store_directory import DirectoryStore
from tasks.object_store_s3 import S3Store
from tests.quiet_prefect import ask_and_tell_no_more_than_needed

# A flow that does not stand in the module of its name.
MODULES = {"emergency_backup": "nightly_backup"}

PATIENCE_SECONDS = 40


def die(*_: Any, **__: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class Changes:
    """Counts every change of a store, whichever thread makes it, and dies or sleeps at the ordered one."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._numbers, self._turn = itertools.count(1), threading.Lock()

    def begin(self) -> int:
        with self._turn:
            number = next(self._numbers)
        if number == self._order.get("kill_before"):
            die()
        if number == self._order.get("pause_before"):
            wait_for(self._order["go"])
        return number

    def whole(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def change(store: Any, key: str, *content: Any) -> Any:
            self.begin()
            return original(store, key, *content)

        return change

    def streamed(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def write(store: Any, key: str, chunks: Iterable[bytes]) -> Any:
            return original(store, key, self._within(self.begin(), chunks))

        return write

    def _within(self, number: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            yield chunk[: len(chunk) // 2]
            if number == self._order.get("kill_within"):
                die()
            yield chunk[len(chunk) // 2 :]


def watch_changes(order: dict[str, Any]) -> None:
    changes = Changes(order)
    for store in (DirectoryStore, S3Store):
        # A folder's ``write`` is its ``write_stream``.
        for name in ("write_if_absent", "delete", *(("write",) if store is S3Store else ())):
            setattr(store, name, changes.whole(getattr(store, name)))
        store.write_stream = changes.streamed(store.write_stream)  # type: ignore[method-assign]


def replace(called: str, make: Callable[[Any], Any]) -> None:
    name, _, function = called.partition(":")
    module = importlib.import_module(name)
    setattr(module, function, make(getattr(module, function)))


def die_around_steps(order: dict[str, Any]) -> None:
    """Die before the ordered task run, or after the ordered line of the journal."""
    task_runs, lines, turn = itertools.count(1), itertools.count(1), threading.Lock()
    begin_run, write = SyncTaskRunEngine.begin_run, Journal.write

    def begin(engine: Any) -> None:
        with turn:
            number = next(task_runs)
        if number == order.get("kill_before_task"):
            die()
        begin_run(engine)

    def put_down(journal: Journal, step: str, **facts: Any) -> None:
        write(journal, step, **facts)
        if next(lines) == order.get("kill_after_journal") or step == order.get("kill_after_step"):
            die()

    SyncTaskRunEngine.begin_run = begin  # type: ignore[method-assign,assignment]
    Journal.write = put_down  # type: ignore[method-assign,assignment]


def find_flow(name: str) -> Any:
    return getattr(importlib.import_module(f"flows.{MODULES.get(name, name)}"), name)


def wait_for(file: str) -> None:
    Path(file).with_suffix(".paused").touch()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not Path(file).exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def after_pause(original: Callable[..., Any], go: str) -> Callable[..., Any]:
    def pause(*args: Any, **kwargs: Any) -> Any:
        wait_for(go)
        return original(*args, **kwargs)

    return pause


def run(order: dict[str, Any]) -> None:
    os.environ |= {"RUNBOOK_SERVICES": order["services"], "PM2_HOME": order["pm2_home"]}
    ask_and_tell_no_more_than_needed()
    watch_changes(order)
    die_around_steps(order)
    flow = find_flow(order["flow"])
    for name, value in order.get("set", {}).items():
        module, _, constant = name.partition(":")
        setattr(importlib.import_module(module), constant, value)
    if called := order.get("kill_when_called"):
        replace(called, lambda _: die)
    if called := order.get("pause_when_called"):
        replace(called, lambda original: after_pause(original, order["go"]))
    if "retry_seconds" in order:
        for found in gc.get_objects():
            if type(found) is Task:
                found.retry_delay_seconds = order["retry_seconds"]
    log = io.StringIO()
    logging.getLogger("prefect").addHandler(logging.StreamHandler(log))
    with temporary_settings({PREFECT_API_URL: order["api"], PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        state = flow(**order["parameters"], return_state=True)
    answer = Path(order["answer"])
    unfinished = answer.with_suffix(".unfinished")
    unfinished.write_text(
        json.dumps({"type": state.type.value, "message": state.message, "log": log.getvalue()})
    )
    unfinished.replace(answer)


run(json.loads(globals()["ORDER"]))
