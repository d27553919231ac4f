"""Causes in the application's process: whether it runs, and takes requests."""

from flows.decisions.diagnosis_reading import (
    MANAGERS,
    Finding,
    Rule,
    find_hungry,
    find_oldest,
    gives_no_answer,
    is_young,
    known,
    list_instances,
    say_health,
    say_hunger,
    say_last_words,
    say_moment,
    suffers,
)
from tasks.records.evidence import Evidence
from tasks.records.figures import say_count
from tasks.records.process import ProcessInstance
from tasks.records.service import ServiceProfile

# 0, or ended by the signals that process managers stop with (SIGINT, SIGTERM).
_ON_PURPOSE = {None, 0, 130, 143}
_KILLED = 137
_FEWEST_UNSTABLE = 2
_FEWEST_RESTARTS = 3


def read_stopped(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Is no process of it there, and does its manager mean it to be so?"""
    process = known(evidence.process)
    if process is None or not process.stopped or any(i.state == "errored" for i in process.instances):
        return None
    name, manager = profile.application.process_name, MANAGERS[profile.application.process_manager]
    codes = {instance.exit_code for instance in process.instances}
    said = (f"{manager} says: {process.detail.removesuffix('.')}.", say_health(evidence))
    if codes <= _ON_PURPOSE:
        return Finding(
            f"{name} is stopped, as a person or a maintenance leaves it.", said, independent=bool(codes)
        )
    return Finding(
        f"{name} {_say_end(codes)}, and {manager} did not start it again.",
        (*said, *say_last_words(evidence)),
        advice="Read the last words in the log before starting it again; a restart is safe to try.",
    )


def read_errored(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Did it fail, and does its manager not start it again?"""
    failed = [instance for instance in list_instances(evidence) if instance.state == "errored"]
    if not failed:
        return None
    name, manager = profile.application.process_name, MANAGERS[profile.application.process_manager]
    online = any(instance.state == "online" for instance in list_instances(evidence))
    which = f"{say_count(len(failed), 'process', 'processes')} of {name}" if online else name
    if any(instance.given_up for instance in failed):
        how = f"ended soon after each start, and {manager} gave up starting it"
    else:
        how = f"{_say_end({one.exit_code for one in failed})}, and {manager} did not start it again"
    return Finding(
        f"{which} {how}.",
        (*(_say_instance(instance, evidence, profile) for instance in failed), *say_last_words(evidence)),
        since=find_oldest(instance.since for instance in failed),
    )


def read_crash_loop(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Does it end soon after each start, again and again?"""
    looping = [instance for instance in list_instances(evidence) if _is_looping(instance, evidence)]
    if not looping:
        return None
    # A number of restarts of which nobody knows the times may be of months, before one that has just been.
    sure = any(i.unstable_restarts is None or i.unstable_restarts >= _FEWEST_UNSTABLE for i in looping)
    return Finding(
        f"{profile.application.process_name} ends soon after each start and is started again, in a loop.",
        (*(_say_instance(instance, evidence, profile) for instance in looping), *say_last_words(evidence)),
        certainty="proven" if sure else "likely",
    )


def read_hanging(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Is it alive, and does it not answer?"""
    alive = [instance for instance in list_instances(evidence) if instance.state == "online"]
    if not alive or not gives_no_answer(evidence, profile):
        return None
    if (port := known(evidence.port)) is not None and not any(holder.ours for holder in port.holders):
        return None
    name = profile.application.process_name
    said = (say_health(evidence), *(_say_instance(instance, evidence, profile) for instance in alive))
    suspended = [instance for instance in alive if instance.kernel_state == "suspended"]
    if suspended:
        pids = ", ".join(str(instance.pid) for instance in suspended)
        return Finding(
            f"{name} is suspended by a signal (SIGSTOP), process {pids}: it lives and does nothing.",
            said[::-1],
            independent=True,
            advice="Ask who suspended it, as a debugger does; SIGCONT lets it go on, and a restart as well.",
        )
    if evidence.health.problem is None:
        return Finding(f"{name} answers much too slowly.", said, certainty="likely")
    if hungry := find_hungry(evidence):
        busy = tuple(say_hunger(instance) for instance in hungry)
        return Finding(
            f"{name} hangs: it computes without an end and answers nobody.",
            (*busy, *said),
            certainty="likely",
        )
    return Finding(f"{name} hangs: its process is alive and does not answer.", said, certainty="likely")


def read_not_listening(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Is it alive, and listens nobody where it should?"""
    port = known(evidence.port)
    alive = [instance for instance in list_instances(evidence) if instance.state == "online"]
    if port is None or port.holders or not alive or evidence.health.answers[-1].failure != "refused":
        return None
    if _starts(evidence, profile) or any(_is_looping(instance, evidence) for instance in alive):
        return None
    name = profile.application.process_name
    return Finding(
        f"{name} runs, but does not listen on port {port.port}: its start never came to an end.",
        (say_health(evidence), *(_say_instance(instance, evidence, profile) for instance in alive)),
        certainty="likely",
    )


def read_starting(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Was it started a moment ago?"""
    if not suffers(evidence, profile) or not _starts(evidence, profile):
        return None
    if any(_is_looping(instance, evidence) for instance in list_instances(evidence)):
        return None
    since = find_oldest(instance.since for instance in list_instances(evidence))
    limit = f"{profile.application.start_within.total_seconds():.0f} s"
    return Finding(
        f"{profile.application.process_name} is starting; it may take {limit}.",
        tuple(_say_instance(instance, evidence, profile) for instance in list_instances(evidence)),
        certainty="likely",
        since=since,
    )


def _is_looping(instance: ProcessInstance, evidence: Evidence) -> bool:
    if instance.state not in {"online", "starting", "stopping"}:
        return False
    # PM2 counts an end as unstable only within a second of a start, and soon after somebody's order to start;
    # its restarts are also those by hand. systemd's are its own.
    alone = instance.unstable_restarts is None or instance.restarted_alone
    often = (instance.restarts or 0) >= _FEWEST_RESTARTS and alone
    return bool(
        is_young(instance, evidence) and (often or (instance.unstable_restarts or 0) >= _FEWEST_UNSTABLE)
    )


def _starts(evidence: Evidence, profile: ServiceProfile) -> bool:
    alive = [i for i in list_instances(evidence) if i.state in {"online", "starting"}]
    limit = profile.application.start_within
    young = [i for i in alive if i.since is not None and evidence.at - i.since < limit]
    refused = evidence.health.answers[-1].failure == "refused"
    return bool(alive) and refused and (len(young) == len(alive) or all(i.state == "starting" for i in alive))


def _say_end(codes: set[int | None]) -> str:
    code = max((code for code in codes if code is not None), default=None)
    if code == _KILLED:
        return "was killed"
    return "ended" if code is None else f"ended by itself with exit code {code}"


def _say_instance(instance: ProcessInstance, evidence: Evidence, profile: ServiceProfile) -> str:
    manager = MANAGERS[profile.application.process_manager]
    kernel = f", the kernel calls it {instance.kernel_state}" if instance.kernel_state else ""
    facts = (
        f" (pid {instance.pid})" if instance.pid else "",
        f" is {instance.state}{kernel}",
        f", since {say_moment(instance.since, evidence, profile)}" if instance.since else "",
        f", restarted {say_count(instance.restarts, 'time')}" if instance.restarts else "",
        f", {instance.unstable_restarts} of them soon after a start" if instance.unstable_restarts else "",
        f", last exit code {instance.exit_code}" if instance.exit_code else "",
        f", {instance.cpu_percent:.0f} % of a core" if instance.cpu_percent is not None else "",
    )
    return f"{manager} says that process {instance.name}{''.join(facts)}."


_DOWN = ("login broken", "public way broken", "answers with errors")

RULES: tuple[Rule, ...] = (
    Rule(
        "process errored",
        "I14",
        "process",
        read_errored,
        proof="the process manager says that it failed, or that it gave up starting it",
        advice="Read its last words in the log and correct what they name; then restart it.",
        remedy="restart",
        explains=_DOWN,
    ),
    Rule(
        "crash loop",
        "I14",
        "process",
        read_crash_loop,
        proof="the process manager started it again within the last minute, as it did several times before",
        advice="Read its last words in the log and correct what they name.",
        remedy="restart",
        explains=(*_DOWN, "not listening", "hanging"),
    ),
    Rule(
        "process stopped",
        "I33",
        "process",
        read_stopped,
        proof="the process manager says that it is stopped, with the exit code",
        advice="Make sure that nobody is at work on it, then start it.",
        remedy="restart",
        explains=_DOWN,
    ),
    Rule(
        "starting",
        "I33",
        "process",
        read_starting,
        proof="the process manager started it a moment ago, and nobody listens yet",
        advice="Wait until the start should be over, then look again.",
        explains=_DOWN,
    ),
    Rule(
        "not listening",
        "I14",
        "process",
        read_not_listening,
        proof="its process is alive for longer than a start takes, and nobody listens on its port",
        advice="See in the log how far the start came; it likely waits for something. Then restart it.",
        remedy="restart",
        explains=_DOWN,
    ),
    Rule(
        "hanging",
        "I33",
        "process",
        read_hanging,
        proof="its process is alive and holds the port, and requests are never answered",
        advice="Restart it; if it hangs again, the newest change or request in the log is what to look at.",
        remedy="restart",
        explains=_DOWN,
    ),
)
