"""Files that a cluster's programs read, as values: kubeconfigs, configuration files, audit policy, volumes."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.cluster.binaries import PAUSE_IMAGE

# On a bridge of its own: API server and DNS as the pods see them.
CONTROL_ADDRESS = "10.244.0.1"
SERVICE_NETWORK = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
POD_NETWORK = "10.244.0.0/16"

# One JSON line a request and user, without bodies: enough to count what each client asks for.
AUDIT_POLICY = json.dumps(
    {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    }
)


def kubeconfig(port: int, authority: Path, *, user: str, token: str, namespace: str = "default") -> str:
    """Return a kubeconfig (JSON is YAML) for one user with a bearer token."""
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(authority)}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user, "namespace": namespace}}],
        },
        indent=1,
    )


def corefile(kubeconfig_path: Path) -> str:
    """Return CoreDNS's configuration: it answers for the cluster's names, and for no others, so that pods reach nothing outside by name."""
    return f"""\
.:53 {{
  bind {CONTROL_ADDRESS}
  errors
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {kubeconfig_path} test
    ttl 1
  }}
}}
"""


def pod_gateway(index: int) -> str:
    """Return the address of node `index` on its own bridge."""
    return f"10.244.{index}.1"


def network(index: int, folder: Path) -> str:
    """Return the CNI configuration: the pods of a node hang on a bridge of their own; the host routes between the bridges."""
    ipam = {
        "type": "host-local",
        "dataDir": str(folder / "ipam"),
        "ranges": [[{"subnet": f"10.244.{index}.0/24"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": f"cni{index}",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": ipam,
    }
    return json.dumps({"cniVersion": "1.0.0", "name": f"pods{index}", "plugins": [bridge, {"type": "loopback"}]})


def containerd(root: Path, state: Path, socket: Path, network_folder: Path) -> str:
    """Return containerd's configuration. restrict_oom_score_adj: without CAP_SYS_RESOURCE no process may lower its own score."""
    return f'''\
version = 2
root = "{root}"
state = "{state}"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "{state}/runc"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{network_folder}"
'''


def kubelet(index: int, folder: Path, cgroup: str, authority: Path, socket: Path) -> str:
    """Return kubelet's configuration. makeIPTablesUtilChains is off: the host's packet filter keeps nothing of kubelet's."""
    authentication = {
        "anonymous": {"enabled": False},
        "webhook": {"enabled": True},
        "x509": {"clientCAFile": str(authority)},
    }
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": authentication,
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": cgroup,
            "clusterDNS": [CONTROL_ADDRESS],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": f"unix://{socket}",
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "failCgroupV1": False,
            "failSwapOn": False,
            "healthzPort": 0,
            "imageGCHighThresholdPercent": 100,
            "localStorageCapacityIsolation": False,
            "makeIPTablesUtilChains": False,
            "nodeStatusUpdateFrequency": "2s",
            "podLogsDir": str(folder / "logs"),
            "port": 10250 + index,
            "readOnlyPort": 0,
        }
    )


def shared_volumes(paths: Iterable[Path], nodes: list[str]) -> dict[str, Any]:
    """Return ReadWriteMany volumes of the default class `shared`: all nodes see the same folders, as they would with NFS.

    They are `local` volumes, not hostPath: the kubelet applies the pod's fsGroup to them, as to a network file system.
    """
    hosts = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": nodes}]}]
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "shared", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "Immediate",
    }
    volumes = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": path.name},
            "spec": {
                "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
                "capacity": {"storage": "100Gi"},
                "local": {"path": str(path)},
                "nodeAffinity": {"required": {"nodeSelectorTerms": hosts}},
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "shared",
            },
        }
        for path in paths
    ]
    return {"apiVersion": "v1", "kind": "List", "items": [storage_class, *volumes]}
