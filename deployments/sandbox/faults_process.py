"""Faults of the application's process, and of the port that it listens on."""

import signal

from deployments.sandbox import programs
from deployments.sandbox.breakage import Breakage
from deployments.sandbox.ports import is_free

_FOREVER = 1_000_000


def stop(broken: Breakage) -> None:
    """Stop it, as somebody did who went home."""
    broken.undo("restart")
    broken.pm2.run("stop", broken.application)
    broken.wait_until_unhealthy()


def crash(broken: Breakage, **settings: object) -> None:
    """Deploy a defect that ends each start."""
    broken.write(broken.entry, f"{CRASH}\n{broken.read(broken.entry)}")
    broken.restart(**settings)


def loop(broken: Breakage) -> None:
    """Let PM2 start it again and again."""
    crash(broken, max_restarts=_FOREVER, restart_delay=300)
    often = 3 * len(broken.pm2.statuses()[broken.application])
    broken.wait_until("a loop", lambda: broken.pm2.unstable_restarts(broken.application) >= often)


def give_up(broken: Breakage) -> None:
    """Let PM2 give it up."""
    crash(broken)
    broken.wait_until_errored()


def hang(broken: Breakage) -> None:
    """Suspend it, which PM2 does not notice."""
    broken.undo("continue")
    for process in broken.processes():
        process.send_signal(signal.SIGSTOP)
    broken.wait_until_unhealthy()


def spin(broken: Breakage) -> None:
    """Deploy a loop that never ends."""
    broken.write(broken.entry, f"{broken.read(broken.entry)}\n{SPIN}\n")
    broken.restart()
    broken.wait_until_unhealthy()


def block(broken: Breakage) -> None:
    """Deploy a computation that leaves it hardly any time to answer."""
    broken.write(broken.entry, f"{broken.read(broken.entry)}\n{BLOCK}\n")
    broken.restart()
    broken.wait_until_unhealthy()


def take_port(broken: Breakage) -> None:
    """Let a stranger listen on its port before it does."""
    broken.take_down()
    broken.helper("stranger", broken.port)
    broken.start()
    broken.wait_until_errored()


def leave_behind(broken: Breakage) -> None:
    """Let an old process of its own, which PM2 does not know and which hangs, keep its port."""
    broken.take_down()
    name = f"fault-{broken.service}-left-behind"
    broken.undo("kill", name)
    supervisor = broken.sandbox.supervisor
    supervisor.spawn(name, [programs.node(), broken.entry], folder=broken.folder)
    broken.wait_until("an old process", lambda: not is_free(broken.port))
    old = supervisor.process(name)
    if old is not None:
        old.send_signal(signal.SIGSTOP)
    broken.start()
    broken.wait_until_errored()


def exhaust_memory(broken: Breakage) -> None:
    """Deploy a leak that the heap has no room for."""
    broken.write(broken.entry, f"{broken.read(broken.entry)}\n{EXHAUST}\n")
    broken.restart(node_args=["--max-old-space-size=24"])
    broken.wait_until_errored()


def leak(broken: Breakage) -> None:
    """Deploy a leak that grows beyond what the profile allows."""
    broken.write(broken.entry, f"{broken.read(broken.entry)}\n{LEAK}\n")
    broken.restart()
    wanted = LEAKED_MIB << 20
    broken.wait_until(
        "a leak", lambda: all(process.memory_info().rss > wanted for process in broken.processes())
    )


def change_clock(broken: Breakage) -> None:
    """Deploy a clock that is a quarter of an hour ahead."""
    broken.write(broken.entry, f"{CLOCK}\n{broken.read(broken.entry)}")
    broken.restart()


LEAKED_MIB = 230
CRASH = "const rates = undefined; rates.find((rate) => rate.country === 'AU');"
SPIN = "setTimeout(() => { for (;;); }, 300);"
BLOCK = "setInterval(() => { const end = Date.now() + 1200; while (Date.now() < end); }, 1);"
EXHAUST = """\
const everything = [];
setInterval(() => { for (let i = 0; i < 20000; i += 1) everything.push({ i, seen: `request ${i}` }); }, 1);
"""
LEAK = f"""\
const kept = [];
const size = () => process.memoryUsage().rss / 1048576;
setInterval(() => {{ if (size() < {LEAKED_MIB + 30}) kept.push(Buffer.alloc(8 << 20, 1)); }}, 20);
setInterval(() => {{ kept.push(Buffer.alloc(65536, 1)); }}, 1000);
"""
CLOCK = """\
const TrueDate = Date;
const AHEAD = 15 * 60 * 1000;
globalThis.Date = class extends TrueDate {
  constructor(...given) {
    if (given.length > 0) super(...given);
    else super(TrueDate.now() + AHEAD);
  }

  static now() {
    return TrueDate.now() + AHEAD;
  }
};
"""
