"""The least operator that could watch FineTuneJobs: what an idle process costs before it does anything.

`python benchmarks/bare_kopf.py KUBECONFIG [typed]`. The script imports `kubernetes.aio`, which loads its parts when they are
first used, and with `typed` also the API and model classes that the client's own examples use.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import kopf
import yaml

if "typed" in sys.argv:
    from kubernetes.aio.client import CoreV1Api  # noqa: F401
else:
    import kubernetes.aio  # noqa: F401


@kopf.on.login()
def login(**_: Any) -> kopf.ConnectionInfo:
    """Return the token of the kubeconfig."""
    with open(sys.argv[1]) as file:
        config = yaml.safe_load(file)
    cluster = config["clusters"][0]["cluster"]
    return kopf.ConnectionInfo(
        server=cluster["server"],
        ca_path=cluster["certificate-authority"],
        scheme="Bearer",
        token=config["users"][0]["user"]["token"],
    )


@kopf.on.event("finetune.dev", "v1alpha1", "finetunejobs")
async def observe(**_: Any) -> None:
    """Do nothing."""


settings = kopf.OperatorSettings()
settings.scanning.disabled = True
settings.peering.standalone = True
settings.posting.enabled = False
asyncio.run(kopf.operator(settings=settings, clusterwide=True))
