"""A small `wevtutil`: `python wevtutil.py FOLDER qe Application /q:QUERY /f:xml /c:N /rd:true`.

Windows does not run in the sandbox. FOLDER has a file application.json: a list of events, each with provider,
time, level and data. A file `denied` there stands for a user who may not read the log.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

DENIED = 5
XMLNS = "http://schemas.microsoft.com/win/2004/08/events/event"


def main() -> int:
    """Print the events of the provider since the moment as XML, the newest first."""
    folder = Path(sys.argv[1])
    options = dict(word.removeprefix("/").partition(":")[::2] for word in sys.argv[4:])
    if (folder / "denied").exists():
        print("Failed to read events. Access is denied.", file=sys.stderr)
        return DENIED
    wanted = re.search(r"Provider\[@Name='(.+?)'\] and TimeCreated\[@SystemTime>='(.+?)'\]", options["q"])
    if wanted is None:
        print("The specified query is invalid.", file=sys.stderr)
        return 1
    provider, since = wanted.groups()
    events: list[dict[str, Any]] = json.loads((folder / "application.json").read_text(encoding="utf-8"))
    found = [event for event in events if event["provider"] == provider and event["time"] >= since]
    for event in sorted(found, key=lambda event: str(event["time"]), reverse=True)[: int(options["c"])]:
        data = "".join(f"<Data>{escape(text)}</Data>" for text in event["data"])
        print(
            f"<Event xmlns='{XMLNS}'><System><Provider Name={quoteattr(provider)}/><EventID>1</EventID>"
            f"<Level>{event['level']}</Level><TimeCreated SystemTime='{event['time']}'/></System>"
            f"<EventData>{data}</EventData></Event>"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
