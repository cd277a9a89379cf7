"""The requests to the API server about one namespace, in the order of its answers."""

from __future__ import annotations

from typing import Any

from tests.support.cluster.control_plane import ControlPlane


def requests(cluster: ControlPlane, namespace: str) -> list[dict[str, Any]]:
    done = [event for event in cluster.audit_events() if event["stage"] == "ResponseComplete"]
    return [event for event in done if (event.get("objectRef") or {}).get("namespace") == namespace]


def is_request(event: dict[str, Any], verb: str, resource: str) -> bool:
    return bool(event["verb"] == verb and event["objectRef"].get("resource") == resource)


def code(event: dict[str, Any]) -> int:
    """Return the HTTP status of the answer."""
    answered: int = event["responseStatus"]["code"]
    return answered
