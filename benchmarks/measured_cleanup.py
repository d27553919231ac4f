"""Run one audit-log-cleanup in this process and print when it began and ended, by the clock of the host."""

import json
import sys
import time

from flows.audit_log_cleanup import audit_log_cleanup


def main(service: str) -> None:
    began = time.time()
    state = audit_log_cleanup(service, return_state=True)
    ended = time.time()
    if not state.is_completed():
        sys.exit(f"The cleanup ended {state.name}: {state.message}")
    sys.stdout.write(json.dumps({"began": began, "ended": ended}))


if __name__ == "__main__":
    main(sys.argv[1])
