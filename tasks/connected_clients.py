"""Who is connected to the application at this moment."""

import psutil
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.environment_file import read_variable
from tasks.errors import RunbookError
from tasks.records.metrics import Clients
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile


@task(cache_policy=NO_CACHE, persist_result=False)
def measure_clients(profile: ServiceProfile) -> Clients | Unknown:
    """Given a service, return how many connections its port has, or why nobody can tell."""
    try:
        said = read_variable(profile, profile.application.port_variable)
        found = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return Unknown(why="the worker's user may not see this host's connections")
    except RunbookError as error:
        return Unknown(why=str(error).removesuffix("."))
    addresses = [
        one.raddr.ip
        for one in found
        if one.status == psutil.CONN_ESTABLISHED and one.laddr and str(one.laddr.port) == said and one.raddr
    ]
    return Clients(connections=len(addresses), addresses=len(set(addresses)))
