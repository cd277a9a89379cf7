"""Claims that a job can't write to: read-only, somebody else's, full. Their volumes are folders of the first node."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.cluster.nodes import NodeCluster
from tests.support.commands import run

NODE = 1
BYTES = 64 * 1024
SMALL_BYTES = 800 * 1024


class BrokenClaims:
    """Claims in one namespace, each bound to a volume of its own that only pods of one node can mount."""

    def __init__(self, cluster: NodeCluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._made: list[str] = []

    def read_only(self, name: str) -> None:
        """Make a claim that is read-only, as an NFS export may be."""
        self._mount(self._folder(name), "ro")
        self._claim(name)

    def of_root(self, name: str) -> None:
        """Make a claim that root owns, as an NFS export nobody has handed over may be: kubelet sets no group on a folder of the host."""
        self._folder(name).chmod(0o755)
        self._claim(name)

    def full(self, name: str) -> None:
        folder = self._folder(name)
        self._mount(folder, f"size={BYTES},mode=1777")
        self._inside("dd", "if=/dev/zero", f"of={folder}/old-run", f"bs={BYTES}", "count=1")
        self._claim(name)

    def small(self, name: str) -> None:
        """Make a claim with room for the prepared data, but not for a checkpoint: waiting does not help."""
        self._mount(self._folder(name), f"size={SMALL_BYTES},mode=1777")
        self._claim(name)

    def remove(self) -> None:
        """Remove the volumes; the claims go with their namespace."""
        for name in self._made:
            self._cluster.kubectl("delete", "persistentvolume", name, "--ignore-not-found", "--wait=false")

    def _folder(self, name: str) -> Path:
        folder = self._cluster.folder / "broken" / f"{self._namespace}-{name}"
        folder.mkdir(parents=True)
        return folder

    def _mount(self, folder: Path, options: str) -> None:
        """Mount memory for the node alone: it is gone with the node."""
        self._inside("mount", "-t", "tmpfs", "-o", options, "tmpfs", folder)

    def _inside(self, *command: str | Path) -> None:
        process = min(self._cluster.group.child(f"node{NODE}/system").pids())
        run("nsenter", f"--mount=/proc/{process}/ns/mnt", *command)

    def _claim(self, name: str) -> None:
        volume = f"{self._namespace}-{name}"
        modes = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
        path = str(self._cluster.folder / "broken" / volume)
        hosts = [{"key": "kubernetes.io/hostname", "operator": "In", "values": [self._cluster.node_names[NODE - 1]]}]
        self._made.append(volume)
        objects = [
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": volume},
                "spec": {
                    **modes,
                    "capacity": {"storage": "1Gi"},
                    "hostPath": {"path": path, "type": "Directory"},
                    "claimRef": {"namespace": self._namespace, "name": name},
                    "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": hosts}]}},
                },
            },
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name},
                "spec": {**modes, "volumeName": volume, "resources": {"requests": {"storage": "1Gi"}}},
            },
        ]
        self._cluster.apply(*json.loads(json.dumps(objects)), namespace=self._namespace)
