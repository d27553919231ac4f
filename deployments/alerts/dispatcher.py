"""Turn what waits on disk into runs, for as long as the receiver lives; a kill loses and doubles nothing."""

import logging
import signal
import threading
import time
from datetime import timedelta
from typing import Final

from deployments.alerts import pending
from deployments.alerts.folding import forget
from deployments.alerts.measures import Measures
from deployments.alerts.pending import Pending, Untold
from deployments.alerts.prefect_runs import PrefectRuns
from deployments.alerts.store import Store
from tasks.errors import RefusedError, UnreachableError

_IDLE_SECONDS: Final = 5.0
_FORGETTING_SECONDS: Final = 3600.0
# After so many in a row it is the server and not the alert.
_PATIENCE: Final = 3
_FIRST_PAUSE_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 5.0
_log = logging.getLogger(__name__)


class Dispatcher:
    """A thread that looks at the store when it is woken, and now and then by itself."""

    def __init__(self, store: Store, runs: PrefectRuns, measures: Measures, keep: timedelta) -> None:
        """Take the store, Prefect, the counters, and for how long alerts are kept."""
        self._store = store
        self._runs = runs
        self._measures = measures
        self._keep = keep
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._forgot_at = 0.0
        self._thread = threading.Thread(target=self._run, name="alerts-dispatcher", daemon=True)

    def start(self) -> None:
        """Begin with what an earlier receiver left."""
        self._thread.start()

    def wake(self) -> None:
        """Say that there is something new."""
        self._woken.set()

    def stop(self) -> None:
        """End after the request that is under way."""
        self._stopped.set()
        self._woken.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._dispatch()
        finally:
            if not self._stopped.is_set():
                # A receiver that takes alerts and starts nothing must not go on: it is started again.
                signal.raise_signal(signal.SIGTERM)

    def _dispatch(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            self._woken.clear()
            try:
                self._forget_old()
                # Both, whatever becomes of the other.
                is_well = all([self._start(), self._tell()])
            except UnreachableError as error:
                _log.warning("%s", error)
                is_well = False
            failures = 0 if is_well else failures + 1
            if is_well:
                self._woken.wait(_IDLE_SECONDS)
            else:
                # New posts do not make a server come back: only the end is heard here.
                pause = _FIRST_PAUSE_SECONDS * 2 ** min(failures, 10)
                self._stopped.wait(min(_LONGEST_PAUSE_SECONDS, pause))

    def _start(self) -> bool:
        """Start what waits; tell whether Prefect was there for all of it."""
        misses = 0
        with self._store.reading() as connection:
            waiting = pending.find_pending(connection)
        for alert in waiting:
            if self._stopped.is_set() or misses == _PATIENCE:
                break
            misses = 0 if self._start_one(alert) else misses + 1
        if waiting and not misses:
            # There may be more than one page of them.
            self.wake()
        return not misses

    def _start_one(self, alert: Pending) -> bool:
        try:
            run = self._runs.start(alert)
        except RefusedError as error:
            reason = str(error)
            self._measures.count_run("refused")
            _log.warning("%s: %s", alert.name, reason)
            self._store.submit(lambda rows: pending.note_refused(rows, alert.key, reason)).result()
            return True
        except UnreachableError as error:
            reason = str(error)
            self._lost(reason)
            self._store.submit(lambda rows: pending.note_tried(rows, alert.key, reason)).result()
            return False
        self._measures.reached_prefect()
        now = time.time()
        self._store.submit(lambda rows: pending.note_started(rows, alert.key, run.id, run.name, now)).result()
        self._measures.count_run("started")
        _log.info("%s: %s/%s, run %s", alert.name, alert.runbook, alert.service, run.name)
        return True

    def _tell(self) -> bool:
        """Tell runs of their alert's end; tell whether Prefect was there for all of it."""
        misses = 0
        with self._store.reading() as connection:
            untold = pending.find_untold(connection)
        for ended in untold:
            if self._stopped.is_set() or misses == _PATIENCE:
                break
            misses = 0 if self._tell_one(ended) else misses + 1
        return not misses

    def _tell_one(self, ended: Untold) -> bool:
        try:
            self._runs.tell_resolved(ended)
        except UnreachableError as error:
            self._lost(str(error))
            return False
        now = time.time()
        self._store.submit(lambda rows: pending.note_told(rows, ended.key, now)).result()
        self._measures.count_run("told")
        return True

    def _lost(self, reason: str) -> None:
        if not self._measures.prefect_trouble:
            _log.warning("Alerts are kept, and runs wait: %s", reason)
        self._measures.lost_prefect(reason)

    def _forget_old(self) -> None:
        now = time.time()
        if now - self._forgot_at < _FORGETTING_SECONDS:
            return
        older_than = now - self._keep.total_seconds()
        self._store.submit(lambda rows: forget(rows, older_than, now)).result()
        self._forgot_at = now
