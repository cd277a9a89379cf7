"""A control plane with nodes: each node a mount namespace, a cgroup, a bridge for its pods, containerd and a kubelet.

They share the host's network namespace, so one kube-proxy and one CoreDNS serve all of them, and there can be only one
cluster with nodes on a machine at a time.
"""

import json
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.support.cluster import manifests
from tests.support.cluster.binaries import PAUSE_IMAGE, Binaries
from tests.support.cluster.control_plane import ControlPlane
from tests.support.cluster.network import make_bridge, set_bridge_down, unplug
from tests.support.commands import output, run, wait_for

VOLUMES = 24


class NodeCluster(ControlPlane):
    """A cluster that runs pods. `image_store` is a containerd root with images; each node gets a copy of it."""

    advertise_address = manifests.CONTROL_ADDRESS

    def __init__(self, folder: Path, binaries: Binaries, *, nodes: int = 2, image_store: Path | None = None) -> None:
        super().__init__(folder, binaries)
        self.nodes = list(range(1, nodes + 1))
        self.runtime = Path("/run") / self.group.name
        self._image_store = image_store
        self._kubelets: dict[int, int] = {}
        """Pid of each node's kubelet."""

    @property
    def node_names(self) -> list[str]:
        """The names of the Node objects, in order."""
        return [f"node{index}" for index in self.nodes]

    def start(self) -> None:
        """Start the control plane and the nodes, and wait until all are Ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "has-nodes").touch()
        make_bridge(0)
        with ThreadPoolExecutor() as pool:
            copies = [pool.submit(self._copy_images, index) for index in self.nodes]
            super().start()
            for copy in copies:
                copy.result()
            list(pool.map(self.start_node, self.nodes))
        self._start_network_services()
        self._make_volumes()
        self.wait_ready(self.nodes)

    def wait_ready(self, nodes: Sequence[int]) -> None:
        """Wait until these nodes are Ready."""
        names = [f"node{index}" for index in nodes]
        wait_for(
            f"nodes {', '.join(names)}",
            lambda: self.kubectl("wait", "--for=condition=Ready", "--timeout=1s", "node", *names),
        )

    def start_node(self, index: int) -> None:
        """Start a node for the first time, or again after `kill_node`."""
        node = self.folder / f"node{index}"
        state, socket = self.runtime / f"node{index}", self._socket(index)
        (node / "cni").mkdir(parents=True, exist_ok=True)
        (node / "cni" / "10-bridge.conflist").write_text(manifests.network(index, node))
        (node / "containerd.toml").write_text(manifests.containerd(node / "containerd", state, socket, node / "cni"))
        group = self.group.child(f"node{index}")
        (node / "kubelet.json").write_text(
            manifests.kubelet(index, node, f"/{group.name}", self.pki / "ca.crt", socket)
        )
        make_bridge(index)
        group.create()
        socket.unlink(missing_ok=True)
        inside = self._make_namespace(index, state)
        system = group.child("system")
        system.spawn(*inside, "containerd", "-c", node / "containerd.toml", log=self._log(f"containerd{index}"))
        wait_for(f"containerd of node{index}", lambda: self.ctr(index, "version"))
        if PAUSE_IMAGE not in self.ctr(index, "images", "ls", "-q"):
            self.ctr(index, "images", "import", self.binaries.pause_archive)
        self._kubelets[index] = system.spawn(
            *inside,
            self.binaries.kube,
            "kubelet",
            f"--cert-dir={node / 'pki'}",
            f"--config={node / 'kubelet.json'}",
            f"--hostname-override=node{index}",
            f"--kubeconfig={self.kubeconfig}",
            f"--node-ip={manifests.pod_gateway(index)}",
            f"--root-dir={node / 'kubelet'}",
            "--v=2",
            log=self._log(f"kubelet{index}"),
        )

    def kill_node(self, index: int) -> None:
        """Cut the power: the node is gone without a word, with everything on it. `start_node` brings it back."""
        set_bridge_down(index)  # first: a machine without power sends no FIN and no RST
        group = self.group.child(f"node{index}")
        group.kill()
        unplug(index)
        group.remove()

    @contextmanager
    def silent(self, nodes: Sequence[int]) -> Iterator[None]:
        """Silence these nodes: their kubelets report nothing, as when the control plane is cut off; containers run on."""
        for index in nodes:
            os.kill(self._kubelets[index], signal.SIGSTOP)
        try:
            yield
        finally:
            for index in nodes:
                os.kill(self._kubelets[index], signal.SIGCONT)
            self.wait_ready(nodes)

    def ctr(self, index: int, *args: str | Path) -> str:
        """Ask a node's containerd."""
        return output("ctr", "--address", self._socket(index), "--namespace", "k8s.io", *args)

    def volume_path(self, claim: str, namespace: str | None = None) -> Path:
        """Return the folder behind a claim, once it is bound. The namespace may be left out where the name is unique."""

        def bound() -> list[str]:
            return [
                volume["spec"]["local"]["path"]
                for volume in self.get("persistentvolumes")["items"]
                if (reference := volume["spec"].get("claimRef")) and volume["status"]["phase"] == "Bound"
                if reference["name"] == claim and namespace in {None, reference["namespace"]}
            ]

        wait_for(f"a volume for the claim {claim}", bound)
        paths = bound()
        if len(paths) > 1:
            raise LookupError(f"there are {len(paths)} bound claims called {claim}: name the namespace")
        return Path(paths[0])

    def recycle_volumes(self) -> None:
        """Empty the volumes whose claims are gone, so that they can be bound again."""
        for volume in self.get("persistentvolumes")["items"]:
            if volume["status"].get("phase") == "Released":
                path = Path(volume["spec"]["local"]["path"])
                shutil.rmtree(path)
                path.mkdir()
                patch = json.dumps({"spec": {"claimRef": None}})
                self.kubectl(
                    "patch", "persistentvolume", volume["metadata"]["name"], "--type=merge", f"--patch={patch}"
                )

    def _socket(self, index: int) -> Path:
        return self.runtime / f"node{index}.sock"

    def _log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    def _copy_images(self, index: int) -> None:
        if self._image_store is not None:
            copy_store(self._image_store, self.folder / f"node{index}" / "containerd")

    def _make_namespace(self, index: int, state: Path) -> tuple[str, ...]:
        """Make the mount namespace for a node's files at fixed paths of the host; it ends with the node."""
        state.mkdir(parents=True, exist_ok=True)
        private = [state, "/run/containerd", "/var/lib/cni", "/var/log/containers"]
        mounts = " && ".join(f"mkdir -p {path} && mount -t tmpfs tmpfs {path}" for path in private)
        holder = self.group.child(f"node{index}/system").spawn(
            *("unshare", "--mount", "--propagation", "private", "sh", "-c", f"{mounts} && exec sleep infinity"),
            log=self._log(f"namespace{index}"),
        )
        process = Path(f"/proc/{holder}")
        wait_for(
            f"the namespace of node{index}",
            lambda: "sleep" in (process / "comm").read_text() and str(state) in (process / "mounts").read_text(),
        )
        return ("nsenter", f"--mount={process}/ns/mnt")

    def _start_network_services(self) -> None:
        (self.folder / "Corefile").write_text(manifests.corefile(self.kubeconfig))
        control = self.group.child("control")
        control.spawn(self.binaries.coredns, "-conf", self.folder / "Corefile", log=self._log("coredns"))
        self.program(
            "kube-proxy",
            f"--cluster-cidr={manifests.POD_NETWORK}",
            "--conntrack-max-per-core=0",
            "--healthz-bind-address=127.0.0.1:10256",
            "--hostname-override=node1",
            f"--kubeconfig={self.kubeconfig}",
            "--metrics-bind-address=127.0.0.1:10249",
            "--proxy-mode=nftables",
        )

    def _make_volumes(self) -> None:
        paths = [self.folder / "volumes" / f"shared-{number}" for number in range(VOLUMES)]
        for path in paths:
            path.mkdir(parents=True, exist_ok=True)
        objects = manifests.shared_volumes(paths, self.node_names)
        self.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(objects))


def copy_store(source: Path, target: Path) -> None:
    """Copy a containerd root that nobody uses: files as hard links, which takes seconds for 5 GB.

    The databases are copied for real, because they alone are written in place.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    run("cp", "--archive", "--link", source, target)
    for database in target.glob("*/*.db"):
        database.unlink()
        shutil.copy2(source / database.relative_to(target), database)
