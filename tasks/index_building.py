"""Observe, build and drop a service's indexes, and see from outside that they are there: tasks for flows."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from tasks.errors import RunbookError
from tasks.opening_indexes import open_index_server
from tasks.records.data_care import RecommendedIndex
from tasks.records.indexes import BuildFacts, IndexFacts, IndexProof, ObservedIndexes
from tasks.records.service import ServiceProfile
from tasks.retrying import retried

_LOOK_EVERY_SECONDS = 15.0


@retried
def observe_indexes(profile: ServiceProfile) -> ObservedIndexes:
    """Given a service, return all indexes of its database."""
    server = open_index_server(profile)
    return ObservedIndexes(sources=server.list_sources(), indexes=server.list_indexes())


@retried
def examine_build(profile: ServiceProfile, wanted: RecommendedIndex) -> BuildFacts:
    """Given an index that is missing, return what its build would meet."""
    return open_index_server(profile).examine(wanted)


# Not retried: whether a build that lost its connection goes on, only ``clear_build`` finds out.
@task(cache_policy=NO_CACHE, persist_result=False)
def build_index(profile: ServiceProfile, index: IndexFacts) -> None:
    """Given an index by source, name and key, build it; one that fails leaves nothing.

    One that is given as not valid is built again in its place. How far it is stands in the log.
    """
    server = open_index_server(profile)
    logger = get_run_logger()
    logger.info("Building %s on %s.", index.name, index.source)

    def tell() -> None:
        if (progress := server.read_progress(index)) is not None:
            logger.info("%s on %s: %s.", index.name, index.source, progress)

    with _every(_LOOK_EVERY_SECONDS, tell):
        server.build(index)


@task(cache_policy=NO_CACHE, persist_result=False)
def drop_index(profile: ServiceProfile, index: IndexFacts) -> None:
    """Given an index, drop it; one that is gone is no error."""
    open_index_server(profile).drop(index)


@retried
def clear_build(profile: ServiceProfile, index: IndexFacts) -> bool:
    """Given an index that a killed run was building, wait until the server is through with it.

    What a failed build left is dropped. Return whether the index is there and valid.
    """
    return open_index_server(profile).clear(index)


@retried
def prove_index(profile: ServiceProfile, index: IndexFacts) -> IndexProof:
    """Given an index that was built, return what a new connection finds of it."""
    server = open_index_server(profile)
    found = next(
        (one for one in server.list_indexes() if (one.source, one.name) == (index.source, index.name)), None
    )
    return IndexProof(facts=found, used=server.explain(index) if found is not None else None)


@contextmanager
def _every(seconds: float, tell: Callable[[], None]) -> Generator[None]:
    """Call ``tell`` every so often while the block lasts; that it cannot tell spoils nothing."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(seconds):
            try:
                tell()
            except RunbookError:
                # The block meets what is wrong itself.
                continue

    thread = threading.Thread(target=go_on, name="index-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
