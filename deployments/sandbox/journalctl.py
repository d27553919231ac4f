"""A small `journalctl`: `python journalctl.py FOLDER OPTION...`.

systemd does not run in the sandbox. FOLDER has a file UNIT.json for each unit: a list of entries, with the
fields that journald gives them. A file `denied` there stands for a user who may not read the journal.
"""

import json
import sys
from pathlib import Path
from typing import Any

DENIED = 1
# A longer field is null, unless --all is said.
LONGEST = 4096


def main() -> int:
    """Print the entries of the unit since the moment as JSON, a line each."""
    folder = Path(sys.argv[1])
    options = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[2:])
    if (folder / "denied").exists():
        print("Hint: You are currently not seeing messages from other users and the system.", file=sys.stderr)
        print("No journal files were opened due to insufficient permissions.", file=sys.stderr)
        return DENIED
    file = folder / f"{options['unit']}.json"
    entries: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    since = float(options["since"].removeprefix("@")) * 1e6
    recent = [entry for entry in entries if int(entry["__REALTIME_TIMESTAMP"]) >= since]
    for entry in recent[-int(options["lines"]) :]:
        print(json.dumps(entry if "all" in options else _shorten(entry), ensure_ascii=False))
    if not recent:
        print("-- No entries --")
    return 0


def _shorten(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: None if len(value) > LONGEST else value for name, value in entry.items()}


if __name__ == "__main__":
    sys.exit(main())
