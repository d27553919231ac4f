"""Run a command that file modes bind, also as root: `python without_override.py COMMAND...`.

Root's right to read and write everything is given up for good, so that an application under PM2 suffers from
bad permissions as it would under a user of its own. An ordinary user's command is run as it is. Standard
library only.
"""

import ctypes
import os
import sys

PR_CAPBSET_DROP = 24
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
INHERITABLE = 2


def main() -> None:
    """Give the right up where there is one, then become the command."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
        # effective, permitted, inheritable; then the same for the upper 32 capabilities
        data = (ctypes.c_uint32 * 6)()
        libc.capget(header, data)
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
            data[INHERITABLE] &= ~(1 << capability)
        libc.capset(header, data)
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606  no shell is the point


if __name__ == "__main__":
    main()
