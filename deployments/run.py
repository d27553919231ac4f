"""`make run`, break glass: run a deployed runbook in the shell of this host, with no Prefect server.

Prefect starts a server for the run alone, on this host and with a folder that goes with it. Lock, journal,
audit trail and plan are those of any other run: they are the host's, not Prefect's.
"""

import argparse
import atexit
import importlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from tasks.errors import ConfigurationError

PROJECT: Final = Path(__file__).parent.parent
_SETTINGS: Final = {
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # The log is on the terminal; nobody will look for it in a server that is gone with the run.
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    # What only serves deployments and the UI.
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
}


def main() -> int:
    """Run it; the exit code is 0 only if it ended Completed, and 2 if it was not even begun."""
    parser = argparse.ArgumentParser(prog="python -m deployments.run", description=__doc__)
    parser.add_argument("flow", help="the runbook's name, such as restore-drill")
    parser.add_argument("service", help="the service's name, as in its profile")
    parser.add_argument("parameters", nargs="*", metavar="NAME=VALUE", help="parameters of the runbook")
    options = parser.parse_args()
    try:
        entry = find_deployment(options.flow, options.service)
        given = split_parameters(options.parameters)
        _tell(f"{options.flow} of {options.service}: starting without a Prefect server.")
        _leave_the_configured_server()
        flow, parameters = load_flow(entry, given)
    except ConfigurationError as error:
        _tell(str(error))
        return 2
    state = flow(**parameters, return_state=True)
    _tell(f"{state.name}: {state.message or 'the run said nothing.'}")
    return 0 if state.is_completed() else 1


def find_deployment(flow: str, service: str) -> Mapping[str, Any]:
    """Given the names of a runbook and a service, return the deployment.

    Raise ``ConfigurationError`` if there is none.
    """
    document = yaml.safe_load((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))
    entries = {(_name_flow(entry), entry["name"]): entry for entry in document["deployments"]}
    flows = sorted({name for name, _ in entries})
    if flow not in flows:
        raise ConfigurationError(f"There is no runbook '{flow}'; known: {', '.join(flows)}.")
    if (flow, service) not in entries:
        known = ", ".join(sorted(name for runbook, name in entries if runbook == flow))
        raise ConfigurationError(f"prefect.yaml has no {flow} of a service '{service}'; known: {known}.")
    found: Mapping[str, Any] = entries[flow, service]
    return found


def split_parameters(words: Sequence[str]) -> dict[str, str]:
    """Given words like ``wanted_set=latest``, return them by name.

    Raise ``ConfigurationError`` if one is none.
    """
    given: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigurationError(f"'{word}' is no parameter: write NAME=VALUE, such as dry_run=true.")
        if name in given:
            raise ConfigurationError(f"The parameter {name} is given twice.")
        given[name] = value
    return given


def load_flow(entry: Mapping[str, Any], given: Mapping[str, str]) -> tuple[Any, dict[str, Any]]:
    """Given a deployment and what stands in the command, return the flow and its parameters.

    Raise ``ConfigurationError`` if the flow has no such parameter, or it may not have that value. Imports
    Prefect, which reads its settings then.
    """
    module, _, function = entry["entrypoint"].rpartition(".")
    flow: Any = getattr(importlib.import_module(module), function)
    from prefect.exceptions import ParameterTypeError  # noqa: PLC0415

    known = flow.parameters.properties
    if unknown := sorted(given.keys() - known):
        raise ConfigurationError(
            f"{flow.name} has no parameter '{unknown[0]}'; it has: {', '.join(sorted(known))}."
        )
    parameters = dict(entry["parameters"])
    if given.get("service", parameters["service"]) != parameters["service"]:
        raise ConfigurationError("The service is named once, before the parameters.")
    parameters |= {name: _read_value(name, value, known[name]) for name, value in given.items()}
    # Prefect logs at length what it also raises.
    logging.disable(logging.ERROR)
    try:
        return flow, flow.validate_parameters(parameters)
    except ParameterTypeError as error:
        raise ConfigurationError(" ".join(str(error).split()) + ".") from None
    finally:
        logging.disable(logging.NOTSET)


def _read_value(name: str, text: str, schema: Mapping[str, Any]) -> object:
    """Read a value as YAML would; what is to be text stays as it stands, also if it looks like a date."""
    if schema.get("type") == "string":
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigurationError(f"The value of {name} cannot be read: quote it as YAML wants it.") from None


def _name_flow(entry: Mapping[str, Any]) -> str:
    return str(entry["entrypoint"]).rpartition(".")[2].replace("_", "-")


def _leave_the_configured_server() -> None:
    """Forget everything that this shell says of Prefect, and give this run a folder of its own."""
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    home = tempfile.mkdtemp(prefix="break-glass-")
    # Registered before Prefect's own: the server is stopped first.
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ |= {**_SETTINGS, "PREFECT_HOME": home}


def _tell(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
