"""FineTuneJobs for tests of the operator, and functions that wait for their status."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from tests.support.api import Api, Manifest
from tests.support.patience import PATIENCE_SECONDS

T = TypeVar("T")


def finetune_job(name: str = "yelp", **spec: Any) -> Manifest:
    """Return a job of two nodes whose model and data lie on the claim `shared`."""
    usual = {
        "task": "text-classification",
        "model": {"name": "/data/model"},
        "dataset": {"files": {"train": ["/data/train.csv"]}},
        "nodes": 2,
        "volumes": [{"name": "data", "mountPath": "/data", "readOnly": True, "claimName": "shared"}],
        "storage": {"claimName": "shared"},
        # No node takes these pods, also where there are nodes: the tests play kubelet.
        "template": {"spec": {"schedulerName": "nobody"}},
    }
    metadata = {"name": name}
    return {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": metadata,
        "spec": {**usual, **spec},
    }


def phase(api: Api, name: str = "yelp") -> str | None:
    """Return the phase of a job; None before it has one."""
    return status(api, name).get("phase")


def status(api: Api, name: str = "yelp") -> Manifest:
    body = api.get("FineTuneJob", name)
    assert body is not None
    shown: Manifest = body.get("status") or {}
    return shown


def condition(api: Api, kind: str, name: str = "yelp") -> Manifest:
    """Return one condition of a job; empty before it has that."""
    conditions: list[Manifest] = status(api, name).get("conditions") or []
    return next((item for item in conditions if item["type"] == kind), {})


def eventually(
    what: str, check: Callable[[], T | None], seconds: float = PATIENCE_SECONDS, show: Callable[[], object] = lambda: ""
) -> T:
    """Return the first true answer of `check`; raise an AssertionError with the last state if none comes in time."""
    deadline = time.monotonic() + seconds
    while True:
        if answer := check():
            return answer
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}; last seen: {answer!r} {show()}"
        time.sleep(0.02)


def wait_for_phase(api: Api, wanted: str, name: str = "yelp", seconds: float = PATIENCE_SECONDS) -> Manifest:
    """Wait for a phase; return the first status with it."""

    def check() -> Manifest | None:
        seen = status(api, name)
        return seen if seen.get("phase") == wanted else None

    return eventually(f"{name} is {wanted}", check, seconds, show=lambda: status(api, name))
