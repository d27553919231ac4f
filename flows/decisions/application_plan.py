"""What a restore of the application changes, act by act, and what that rests on."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.records.application_tree import TreeFacts, TreePaths
from tasks.records.backup import Manifest
from tasks.records.figures import say_bytes, say_count
from tasks.records.runbook_plan import PlannedAct, RunbookPlan
from tasks.records.service import ServiceProfile

RUNBOOK = "restore-application"
_HASH_DIGITS = 12
_SWAP_BACK = "by this run when a later act fails, or by the next run after a kill"


@dataclass(frozen=True, slots=True)
class ApplicationFacts:
    """What a plan is made of: the set, what is wrong with it, and what stands and runs on the host."""

    manifest: Manifest
    findings: tuple[str, ...]
    tree: TreeFacts
    running: bool


class ApplicationPlan(RunbookPlan):
    """The plan, with what is needed to apply and to undo it; ``was_there`` says that files are there now."""

    set_id: str
    paths: TreePaths
    keep_env: bool
    was_there: bool


def plan_application(profile: ServiceProfile, facts: ApplicationFacts, *, keep_env: bool) -> ApplicationPlan:
    """Given what is there, return the plan; its ``refusal`` says why it must not be applied."""
    manifest, tree = facts.manifest, facts.tree
    paths = name_folders(tree, manifest.set_id)
    present = say_count(tree.files, "file") if tree.kind == "folder" else "nothing"
    return ApplicationPlan(
        runbook=RUNBOOK,
        service=profile.name,
        summary=(
            f"{tree.directory}, which holds {present} now, is put back to the set {manifest.set_id} of "
            f"{manifest.started_at:%Y-%m-%d %H:%M} UTC: {say_count(manifest.application.files, 'file')}."
        ),
        acts=_list_acts(profile, facts, paths, keep_env=keep_env),
        rests_on={
            "set": f"{manifest.set_id}, archive {manifest.application.archive.sha256[:_HASH_DIGITS]}",
            "directory": f"{tree.directory}, {tree.identity or 'nothing there'}",
            "files at its top": tree.top_level[:_HASH_DIGITS] or "none",
        },
        refusal=next(_list_refusals(facts, paths), None),
        set_id=manifest.set_id,
        paths=paths,
        keep_env=keep_env,
        was_there=tree.kind == "folder",
    )


def name_folders(tree: TreeFacts, set_id: str) -> TreePaths:
    """Return the folders of a restore; two of one set and directory have the same."""
    digits = hashlib.sha256(f"{tree.directory}\0{set_id}".encode()).hexdigest()[:_HASH_DIGITS]
    parent, name = tree.directory.parent, tree.directory.name
    return TreePaths(
        directory=tree.directory,
        beside=parent / f"{name}.restore-{digits}",
        aside=parent / f"{name}.aside-{digits}",
    )


def _list_refusals(facts: ApplicationFacts, paths: TreePaths) -> Iterator[str]:
    set_id, application = facts.manifest.set_id, facts.manifest.application
    if facts.findings:
        yield f"The set {set_id} cannot be relied on: {' '.join(facts.findings)} Restore another one."
    if not application.files:
        yield f"The set {set_id} holds no file of the application: restore another one."
    tree, size = facts.tree, application.archive.raw_bytes
    if tree.kind == "other":
        yield f"{tree.directory} is no folder: correct application.directory, or move it away."
    if tree.directory in tree.mounts:
        yield (
            f"{tree.directory} is a mount point, which cannot change places with another folder: let "
            "application.directory be a folder in it, or mount its parent instead."
        )
    if tree.mounts:
        yield f"{tree.mounts[0]} is mounted within {tree.directory}: unmount it for the restore."
    if not tree.parent_writable:
        yield f"The worker's user may not write in {tree.directory.parent}: give it the right to."
    if tree.of_another is not None and not tree.as_root:
        path, owner = tree.of_another.path, tree.of_another.owner
        yield (
            f"{path} belongs to the user {owner}, and only root could give it back to {owner}: let the "
            "worker run as the user whom all of the files belong to, or restore by hand as root."
        )
    if left := [name for name in tree.siblings if name in {paths.beside.name, paths.aside.name}]:
        yield (
            f"{tree.directory.parent / left[0]} is there: another restore of this set is at work, or it was "
            "left over and has to be moved away."
        )
    if size > tree.free_bytes:
        yield (
            f"The set needs {say_bytes(size)} beside {tree.directory}, and only {say_bytes(tree.free_bytes)} "
            "are free there: free some."
        )


def _list_acts(
    profile: ServiceProfile, facts: ApplicationFacts, paths: TreePaths, *, keep_env: bool
) -> tuple[PlannedAct, ...]:
    application, name = profile.application, profile.application.process_name
    prepared = _list_preparations(profile, facts, paths, keep_env=keep_env)
    stop = PlannedAct(
        what=f"Stop {name}",
        why="It must not run while its files change places.",
        undo=f"Start it again, {_SWAP_BACK}" if facts.running else "Nothing: it does not run now",
    )
    probes = "its health and a login" if application.login else "its health"
    start = PlannedAct(
        what=f"Start {name}, and prove it by {probes}",
        why="Only an application that serves is restored.",
        undo=f"Stop it and rename back, {_SWAP_BACK}",
    )
    delete = PlannedAct(
        what=f"Delete {paths.aside}",
        why="The restored application is proven by then.",
        undo="It cannot be undone: back up first what of it may be wanted",
    )
    return (
        *prepared,
        stop,
        _swap(facts.tree, paths),
        start,
        *((delete,) if facts.tree.kind == "folder" else ()),
    )


def _swap(tree: TreeFacts, paths: TreePaths) -> PlannedAct:
    come_in = f"{paths.beside} to {paths.directory}"
    if tree.kind == "missing":
        return PlannedAct(
            what=f"Rename {come_in}",
            why="Nothing is there: the restored files are the only ones.",
            undo=f"Rename it back, {_SWAP_BACK}",
        )
    changed = f"; {say_count(tree.changed, 'file')} of them changed after the set was made"
    return PlannedAct(
        what=f"Rename {paths.directory} to {paths.aside}, and {come_in}",
        why="Two renames: the application never sees half of its files.",
        how_many=f"{say_count(tree.files, 'file')} aside{changed if tree.changed else ''}",
        undo=f"Rename both back, {_SWAP_BACK}",
    )


def _list_preparations(
    profile: ServiceProfile, facts: ApplicationFacts, paths: TreePaths, *, keep_env: bool
) -> tuple[PlannedAct, ...]:
    application, content = profile.application, facts.manifest.application
    remove = f"Delete {paths.beside}, {_SWAP_BACK}"
    acts = [
        PlannedAct(
            what=f"Unpack the set's application into {paths.beside}, and compare it with the manifest",
            why="The present files stay until the restored ones are proven.",
            how_many=f"{say_count(content.files, 'file')}, {say_bytes(content.archive.raw_bytes)}",
            undo=remove,
        )
    ]
    if facts.tree.kind == "folder":
        kept = [*application.exclude_from_backup]
        if application.install_command and "node_modules" in kept:
            kept.remove("node_modules")
        if keep_env and facts.tree.has_env:
            kept.append(f"{application.env_file} as it is now")
        if kept:
            acts.append(
                PlannedAct(
                    what=f"Give it of the present files: {', '.join(kept)}",
                    why="The backup leaves them out, and an old env file would bring replaced secrets back."
                    if keep_env
                    else "The backup leaves them out.",
                    undo=remove,
                )
            )
    if application.install_command:
        acts.append(
            PlannedAct(
                what=f"Run {' '.join(application.install_command)} there",
                why="The backup holds no dependencies.",
                undo=remove,
            )
        )
    return tuple(acts)
