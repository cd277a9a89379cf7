"""The bridges to which the pods of each node are connected, and the parts that must be removed when a cluster ends."""

from pathlib import Path

from tests.support.cluster.manifests import pod_gateway
from tests.support.commands import run

LINKS = Path("/sys/class/net")


def make_bridge(index: int) -> None:
    """Make and raise the bridge of node `index`; 0 is the control plane's, for the API server and DNS."""
    if not (LINKS / f"cni{index}").exists():
        run("ip", "link", "add", f"cni{index}", "type", "bridge")
        run("ip", "address", "add", f"{pod_gateway(index)}/24", "dev", f"cni{index}")
    run("ip", "link", "set", f"cni{index}", "up")
    run("sysctl", "-qw", "net.ipv4.ip_forward=1")


def set_bridge_down(index: int) -> None:
    """Cut a node off, as pulling its cable does."""
    run("ip", "link", "set", f"cni{index}", "down")


def unplug(index: int) -> None:
    """Remove the pods' veth pairs. Most go with their network namespace, but unsent FINs can hold one for minutes."""
    for port in (LINKS / f"cni{index}" / "brif").glob("*"):
        run("ip", "link", "delete", port.name, check=False)  # it may be gone by now


def remove_all() -> None:
    """Remove the bridges of all nodes, and kube-proxy's tables."""
    for link in LINKS.glob("cni[0-9]*"):
        unplug(int(link.name.removeprefix("cni")))
        run("ip", "link", "delete", link.name)
    for family in ("ip", "ip6"):
        run("nft", "delete", "table", family, "kube-proxy", check=False)  # it may have ended before it made one
