"""Run one audit-log-cleanup in this process and print, as seconds of the host's clock, when it did what.

``began`` and ``ended`` are the whole run; ``from`` and ``until`` what its journal spans: archiving and
deleting.
"""

import json
import sys
import time

from flows.audit_log_cleanup import audit_log_cleanup
from tasks.host_folder import host_folder
from tasks.journal import JournalEntry
from tasks.profiles import load_service


def main(service: str) -> None:
    began = time.time()
    state = audit_log_cleanup(service, return_state=True)
    ended = time.time()
    if not state.is_completed():
        sys.exit(f"The cleanup ended {state.name}: {state.message}")
    journals = host_folder(load_service.fn(service)) / "journals" / "closed"
    lines = max(journals.glob("audit-log-cleanup-*.jsonl")).read_bytes().splitlines()
    first, last = (JournalEntry.model_validate_json(lines[place]).at.timestamp() for place in (0, -1))
    sys.stdout.write(json.dumps({"began": began, "from": first, "until": last, "ended": ended}))


if __name__ == "__main__":
    main(sys.argv[1])
