"""The kill switch: a variable of the Prefect server, with which people forbid remedies, all or a service's.

Its value is the reason, for every service; or an object of service and reason; or a list of services. It is
off when there is no such variable, or it names neither a reason nor the service. It is asked before each act.
"""

from collections.abc import Mapping
from typing import Final

import httpx
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL

from tasks.records.remediation import Hold
from tasks.records.service import ServiceProfile
from tasks.run_context import Run

VARIABLE: Final = "runbooks_hold"
_SECONDS = 5.0


@task(cache_policy=NO_CACHE, persist_result=False)
def read_hold(profile: ServiceProfile, run: Run) -> Hold:
    """Given a service, return whether people forbid remedies for it, and why.

    A deployed run whose server does not answer may do nothing. A run from a shell that has no server, as
    `make run` makes it, cannot ask: the person at that shell decides.
    """
    if not run.deployed and not PREFECT_API_URL.value():
        return Hold(asked=False)
    try:
        with get_client(sync_client=True, httpx_settings={"timeout": _SECONDS}) as client:
            variable = client.read_variable_by_name(VARIABLE)
    except (httpx.HTTPError, PrefectException) as error:
        why = f"the Prefect server, which keeps it as {VARIABLE}, did not answer ({type(error).__name__})"
        return Hold(reason=why)
    reason = None if variable is None else tell_reason(variable.value, profile.name)
    return Hold(reason=reason)


def tell_reason(value: object, service: str) -> str | None:
    """Given the variable's value, return why nothing may be done to a service, or None."""
    if isinstance(value, Mapping):
        value = value.get(service)
    elif isinstance(value, list):
        value = f"{service} stands in {VARIABLE}" if service in value else None
    if value is None or value is False or value == "":
        return None
    return value if isinstance(value, str) else f"{VARIABLE} is {value}"
