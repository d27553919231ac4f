"""A small `journalctl` for the units of systemctl.py: `python unit_journal.py FOLDER OPTION...`.

It knows what `--output=cat --lines=N --unit=NAME [--since=@SECONDS]` prints. What a unit has said since a
start of it is in FOLDER/NAME.SECONDS.log, so a moment between two starts is told apart, and no other.
"""

import sys
from pathlib import Path


def main() -> int:
    """Print the lines that are asked for."""
    options = dict(word.removeprefix("--").partition("=")[::2] for word in sys.argv[2:])
    since = float(options.get("since", "@0").removeprefix("@"))
    name = options["unit"].removesuffix(".service")
    found: list[str] = []
    for path in sorted(Path(sys.argv[1]).glob(f"{name}.*.log")):
        if float(path.name.removeprefix(f"{name}.").removesuffix(".log")) >= since:
            found += path.read_text(encoding="utf-8").splitlines()
    sys.stdout.write("".join(f"{line}\n" for line in found[-int(options["lines"]) :]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
