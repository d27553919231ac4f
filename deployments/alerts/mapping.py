"""Decide what an alert starts: the first route that matches its labels gives service, runbook, parameters."""

import re
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from deployments.alerts.configuration import Route
from deployments.alerts.incoming import Alert, Decision

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.-]*)\}")
# It becomes a part of a URL of Prefect.
_SERVICE = re.compile(r"[a-z][a-z0-9-]{0,62}")


class _LabelMissingError(Exception):
    """A route speaks of a label that the alert has not."""


def decide(alert: Alert, routes: Sequence[Route]) -> Decision:
    """Given an alert and the routes, return what it starts; without a route it is unmapped, and kept."""
    route = next((route for route in routes if _matches(alert.labels, route)), None)
    if route is None:
        return Decision("unmapped", reason="no route matches its labels")
    try:
        service = _fill(route.service, alert.labels)
        parameters = {name: _fill_value(value, alert.labels) for name, value in route.parameters.items()}
    except _LabelMissingError as missing:
        return Decision(
            "refused",
            reason=f"its route needs the label '{missing}', which it has not",
            runbook=route.runbook,
        )
    if _SERVICE.fullmatch(service) is None:
        return Decision(
            "refused",
            reason="what its labels name as the service is no service's name",
            runbook=route.runbook,
        )
    return Decision("received", service=service, runbook=route.runbook, parameters=parameters)


def _matches(labels: Mapping[str, str], route: Route) -> bool:
    return all(
        labels.get(name) == wanted if isinstance(wanted, str) else labels.get(name) in wanted
        for name, wanted in route.match.items()
    )


def _fill_value(value: JsonValue, labels: Mapping[str, str]) -> JsonValue:
    if isinstance(value, str):
        return _fill(value, labels)
    if isinstance(value, list):
        return [_fill_value(item, labels) for item in value]
    if isinstance(value, dict):
        return {name: _fill_value(item, labels) for name, item in value.items()}
    return value


def _fill(text: str, labels: Mapping[str, str]) -> str:
    def value_of(place: re.Match[str]) -> str:
        if place[1] not in labels:
            raise _LabelMissingError(place[1])
        return labels[place[1]]

    return _PLACE.sub(value_of, text)
