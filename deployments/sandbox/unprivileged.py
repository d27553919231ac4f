"""Run a command that refuses to run as root: `python unprivileged.py OWNED_FOLDER COMMAND...`.

PostgreSQL does. Root becomes user 65534 inside a private user namespace, where the files stay root's; where
namespaces are blocked (a container), it becomes the real user 65534, keeps the right to read root's folders,
and the data folder becomes that user's. A program of its own and not a function: between fork and exec of a
process with threads no Python may run. An ordinary user's command is run as it is. Standard library only.
"""

import ctypes
import os
import sys
from pathlib import Path

NOBODY = 65534
CLONE_NEWUSER = 0x10000000
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
FORCE_FALLBACK = "SANDBOX_NO_USER_NAMESPACE"


def main() -> None:
    """Drop root where there is any, then become the command."""
    owned, command = Path(sys.argv[1]), sys.argv[2:]
    if os.geteuid() == 0:
        if FORCE_FALLBACK not in os.environ and _namespace_works():
            _own(owned, os.geteuid())
            _map_to_nobody()
        else:
            _own(owned, NOBODY)
            _become_nobody()
    os.execv(command[0], command)  # noqa: S606  no shell is the point


def _namespace_works() -> bool:
    """Try it in a child: a kernel may allow the namespace and refuse the mapping, with no way back."""
    child = os.fork()
    if child == 0:
        os._exit(0 if _map_to_nobody() else 1)
    _, status = os.waitpid(child, 0)
    return status == 0


def _map_to_nobody() -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWUSER) != 0:
        return False
    try:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{NOBODY} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{NOBODY} {group} 1", encoding="ascii")
    except OSError:
        return False
    return True


def _own(folder: Path, user: int) -> None:
    """Give the folder to the user that the server will be; a change of way may lie between two starts."""
    if not folder.exists() or folder.stat().st_uid == user:
        return
    for parent, _, files in os.walk(folder):
        os.chown(parent, user, user)
        for name in files:
            os.chown(Path(parent, name), user, user, follow_symlinks=False)


def _become_nobody() -> None:
    """Become user 65534 for good, keeping only the right to pass through root's folders."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    kept = (1 << CAP_DAC_OVERRIDE) | (1 << CAP_DAC_READ_SEARCH)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    for wanted in (kept, 1 << CAP_DAC_OVERRIDE):
        # effective, permitted, inheritable; then the same for the upper 32 capabilities
        data = (ctypes.c_uint32 * 6)(wanted, wanted, wanted, 0, 0, 0)
        if libc.capset(header, data) == 0:
            break
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0)


if __name__ == "__main__":
    main()
