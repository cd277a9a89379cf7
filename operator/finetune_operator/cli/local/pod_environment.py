"""The variables and addresses of a local pod's process. Starts nothing."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_operator.cli.local.volumes import Volumes
from finetune_operator.plan.desired.pod_template import ENVIRONMENT

LOOPBACK = "127.0.0.1"
KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
"""A key that can be a variable; the folder of a mounted Secret has other files, which begin with a dot."""
NOT_INHERITED = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"),
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
)
"""Variables of this process that a pod must not see: secrets, and variables that would make it part of another world."""
DATA_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""Variables that only a pod that reads the data may see."""


def inherited_environment(ranks: int, *, reads_data: bool = False) -> dict[str, str]:
    """Return the variables that a pod inherits from this process. Each node would use all cores, so they are divided."""
    without = NOT_INHERITED if reads_data else (*NOT_INHERITED, *DATA_CREDENTIALS)
    kept = {
        name: value for name, value in os.environ.items() if name not in without and not name.startswith("FINETUNE_")
    }
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // ranks)), **kept}


def container_environment(container: Mapping[str, Any], volumes: Volumes) -> dict[str, str]:
    """Return the container's variables, with the values that a Secret or ConfigMap holds."""
    values: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        if "secretRef" in source:
            values |= _keys(volumes.secret(source["secretRef"]["name"]))
        elif "configMapRef" in source:
            values |= _keys(volumes.config_map(source["configMapRef"]["name"]))
    for variable in container["env"]:
        source = variable.get("valueFrom") or {}
        if "secretKeyRef" in source:
            ref = source["secretKeyRef"]
            values[variable["name"]] = (volumes.secret(ref["name"]) / ref["key"]).read_text()
        elif "configMapKeyRef" in source:
            ref = source["configMapKeyRef"]
            values[variable["name"]] = (volumes.config_map(ref["name"]) / ref["key"]).read_text()
        elif "value" in variable:
            values[variable["name"]] = variable["value"]
    if values.get("HOME") == ENVIRONMENT["HOME"]:
        del values["HOME"]  # a container's home is scratch space, but this one is the user's
    return values


def _keys(folder: Path) -> dict[str, str]:
    """Return a variable for each key of a Secret or ConfigMap."""
    return {
        file.name: file.read_text() for file in sorted(folder.iterdir()) if KEY.fullmatch(file.name) and file.is_file()
    }


def free_addresses(count: int) -> list[str]:
    """Return `host:port` addresses that nobody listens on now. All are held until the last is chosen, so that they differ."""
    held = [socket.socket() for _ in range(count)]
    try:
        for listener in held:
            listener.bind((LOOPBACK, 0))
        return [f"{LOOPBACK}:{listener.getsockname()[1]}" for listener in held]
    finally:
        for listener in held:
            listener.close()
