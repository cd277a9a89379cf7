"""The abilities of this machine, and what it lacks, in words for the person who has to mend it.

A tier that cannot run is skipped with the reason, or fails where CI=true: a green run there means that everything ran.
"""

import os
import shutil
import sys
from pathlib import Path

from tests.support.cache import cache_folder, locked
from tests.support.commands import run

# Command -> Debian package that holds it.
FOR_CONTROL_PLANE = {"openssl": "openssl"}
FOR_NODES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "ip": "iproute2",
    "nft": "nftables",
    "sysctl": "procps",
    "nsenter": "util-linux",
}
FOR_IMAGES = {"buildah": "buildah", "debootstrap": "debootstrap", "containers-storage": "containers-storage"}


def in_ci() -> bool:
    """Return whether a tier that cannot run is a failure."""
    return os.environ.get("CI", "").lower() in {"1", "true"}


def why_no_own_cluster() -> str | None:
    """Return why this machine can't run a cluster of its own; None if it can."""
    if sys.platform != "linux":
        return "a cluster of its own needs Linux"
    if os.geteuid() != 0:
        return "a cluster of its own needs root (namespaces, cgroups, bridges)"
    if not shutil.which("go"):
        return "a cluster of its own needs Go 1.24 or newer, to build Kubernetes from its modules (https://go.dev/dl)"
    return None


def has_cuda() -> bool:
    """Return whether torch sees a CUDA device; torch is imported only where there may be one."""
    if not shutil.which("nvidia-smi") and not Path("/dev/nvidiactl").exists():
        return False
    import torch

    return bool(torch.cuda.is_available())


def given_kubeconfig() -> Path | None:
    """Return the cluster to use where this machine can't run one."""
    path = os.environ.get("KUBECONFIG")
    return Path(path) if path else None


def missing_packages(commands: dict[str, str]) -> list[str]:
    """Return the packages whose commands are missing."""
    return sorted({package for command, package in commands.items() if not shutil.which(command)})


def install(commands: dict[str, str]) -> None:
    """Install the commands that are missing. On Debian and its kin only; elsewhere say what is needed."""
    with locked(cache_folder("packages")):
        _install(missing_packages(commands))


def _install(missing: list[str]) -> None:
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise LookupError(f"these programs are needed, and there is no apt-get to bring them: {', '.join(missing)}")
    print(f"installing {', '.join(missing)}", file=sys.stderr, flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-qq", env=quiet)
    # No package may start a daemon of its own: the test cluster runs its own containerd.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        run("apt-get", "install", "-qq", "--no-install-recommends", *missing, env=quiet)
    finally:
        if ours:
            policy.unlink()
