"""A cluster by hand.

python -m tests.support.cluster up [--nodes N]     a cluster with the project's resource definitions and images
python -m tests.support.cluster load               the images as they are now, into its nodes
python -m tests.support.cluster down               its end
"""

import argparse
import sys
from pathlib import Path

from tests.support import machine
from tests.support.cache import cache_folder
from tests.support.cluster import guard
from tests.support.cluster.binaries import binaries
from tests.support.cluster.control_plane import ControlPlane, cgroup_of
from tests.support.cluster.nodes import NodeCluster
from tests.support.images.background import Preparation
from tests.support.images.store import store_folder


def main() -> int:
    """Run the command that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.cluster")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start a cluster and print how to reach it")
    up.add_argument("--nodes", type=int, default=2, help="0: the control plane alone (default: 2)")
    commands.add_parser("load", help="build the images and bring them to the cluster's nodes")
    commands.add_parser("down", help="end the cluster")
    ends = commands.add_parser("guard", help="for the tests: end a cluster with the process that started it")
    ends.add_argument("folder", type=Path)
    ends.add_argument("--with-nodes", action="store_true")
    arguments = parser.parse_args()
    match arguments.command:
        case "guard":
            guard.serve(arguments.folder, with_nodes=arguments.with_nodes)
        case "up":
            _up(_by_hand(), arguments.nodes)
        case "load":
            sockets = sorted((Path("/run") / cgroup_of(_by_hand()).name).glob("node*.sock"))
            Preparation.begin(images=True, log=None, sockets=sockets).wait()
        case "down":
            guard.sweep()
            if _by_hand().exists():
                guard.down(_by_hand())
    return 0


def _by_hand() -> Path:
    return cache_folder("clusters") / "dev"


def _up(folder: Path, nodes: int) -> None:
    if reason := machine.why_no_own_cluster():
        raise LookupError(reason)
    if folder.exists():
        raise LookupError("the cluster is up already; `make cluster-down` ends it")
    guard.sweep()
    machine.install(machine.FOR_CONTROL_PLANE)
    cluster: ControlPlane
    if nodes:
        guard.refuse_second()
        Preparation.begin(images=True, log=None).wait()
        cluster = NodeCluster(folder, binaries(), nodes=nodes, image_store=store_folder())
    else:
        cluster = ControlPlane(folder, binaries())
    folder.mkdir()
    (folder / "by-hand").touch()
    try:
        cluster.start()
        cluster.install_crds()
    except BaseException:
        guard.down(folder)
        raise
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    print(f"export PATH={cluster.binaries.folder}:$PATH  # kubectl", file=sys.stderr)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LookupError as error:
        sys.exit(str(error))
