"""Nodes that do not exist, played by KWOK, which is built from its Go module (2 minutes, once) and kept by content."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from tests.support.cache import cache_folder, content_hash, keep_newest, locked
from tests.support.cluster.binaries import FLAGS
from tests.support.cluster.control_plane import ControlPlane
from tests.support.commands import output, run, wait_for

SOURCES = Path(__file__).with_name("kwok")
STAGES = SOURCES / "stages.yaml"
LEASE_SECONDS = 20
"""Duration of a node's lease, which is renewed each 5 s: well within the 10 s after which the tests' clusters take a node for lost."""


def start(cluster: ControlPlane, count: int) -> None:
    """Give a control plane `count` nodes that run every pod at once. They end with the cluster's cgroup."""
    options = (
        f"--config={STAGES}",
        f"--kubeconfig={cluster.kubeconfig}",
        "--manage-all-nodes=true",
        "--node-ip=127.0.0.1",
        f"--node-lease-duration-seconds={LEASE_SECONDS}",
    )
    log = cluster.folder / "logs" / "kwok.log"
    cluster.group.child("kwok").spawn(_program(), *options, log=log)
    cluster.apply(*(_node(f"fake-{number}") for number in range(count)))
    wait_for(f"KWOK's nodes (see {log})", lambda: _ready(cluster) == count)


def _program() -> Path:
    key = content_hash([file for file in SOURCES.iterdir() if file != STAGES], output("go", "version"), *FLAGS)
    home = cache_folder("kwok")
    with locked(home):
        program = home / key / "kwok"
        if not program.exists():
            print("building KWOK: two minutes, once", file=sys.stderr, flush=True)
            program.parent.mkdir(exist_ok=True)
            partial = program.with_suffix(".partial")
            env = {**os.environ, "CGO_ENABLED": "0"}
            run("go", "-C", SOURCES, "build", *FLAGS, "-ldflags", "-s -w", "-o", partial, ".", env=env)
            partial.rename(program)
        os.utime(program.parent)
        keep_newest(home, 1)
    return program


def _node(name: str) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def _ready(cluster: ControlPlane) -> int:
    conditions = [
        condition
        for node in cluster.get("nodes")["items"]
        for condition in node["status"].get("conditions", ())
        if (condition["type"], condition["status"]) == ("Ready", "True")
    ]
    return len(conditions)
