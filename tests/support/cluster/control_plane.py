"""A control plane of its own: etcd, API server, controller manager and scheduler, on free ports, in one cgroup."""

import json
from pathlib import Path
from typing import Any

from finetune_trainer.shared.host import free_port
from tests.support.cluster import certificates, manifests
from tests.support.cluster.binaries import Binaries
from tests.support.cluster.cgroups import Cgroup
from tests.support.cluster.client import Client
from tests.support.commands import wait_for


def cgroup_of(folder: Path) -> Cgroup:
    """Return the group of the cluster that lives in this folder."""
    return Cgroup(f"finetune-{folder.name}")


class ControlPlane(Client):
    """A control plane whose files are in `folder`. `start` it once; `teardown.down(folder)` ends it."""

    #: How the pods reach the API server; without nodes there are none.
    advertise_address = "127.0.0.1"

    def __init__(self, folder: Path, binaries: Binaries) -> None:
        super().__init__(folder / "kubeconfig", binaries.kubectl)
        self.folder = folder
        self.binaries = binaries
        self.audit_log = folder / "audit.log"
        self.pki = folder / "pki"
        self.group = cgroup_of(folder)
        self.port = 0

    def start(self) -> None:
        """Start all programs and wait until the API server answers and makes service accounts."""
        self.folder.mkdir(parents=True, exist_ok=True)
        certificates.make(self.pki)
        self.port, etcd_port, peer_port = (free_port("127.0.0.1") for _ in range(3))
        authority = self.pki / "ca.crt"
        self.kubeconfig.write_text(
            manifests.kubeconfig(self.port, authority, user="admin", token=certificates.ADMIN_TOKEN)
        )
        self.kubeconfig.chmod(0o600)
        self._start_etcd(f"http://127.0.0.1:{etcd_port}", f"http://127.0.0.1:{peer_port}")
        self._start_api_server(f"http://127.0.0.1:{etcd_port}")
        wait_for("kube-apiserver", lambda: self.kubectl("get", "--raw=/readyz"))
        self._start_controllers()
        wait_for("the first service account", lambda: self._has_account("default"))

    def audit_events(self, user: str | None = None) -> list[dict[str, Any]]:
        """Return the requests so far, of one user (a service account: system:serviceaccount:NAMESPACE:NAME) or of all."""
        with open(self.audit_log) as lines:
            events = [json.loads(line) for line in lines]
        return [event for event in events if user is None or event["user"]["username"] == user]

    def program(self, name: str, *args: str | Path, group: str = "control") -> None:
        """Start one of the Kubernetes programs."""
        self.group.child(group).spawn(self.binaries.kube, name, *args, log=self.folder / "logs" / f"{name}.log")

    def _start_etcd(self, clients: str, peers: str) -> None:
        self.program(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            "--unsafe-no-fsync",
        )

    def _start_api_server(self, etcd: str) -> None:
        policy = self.folder / "audit-policy.json"
        policy.write_text(manifests.AUDIT_POLICY)
        self.program(
            "kube-apiserver",
            f"--advertise-address={self.advertise_address}",
            "--allow-privileged=true",
            f"--audit-log-path={self.audit_log}",
            f"--audit-policy-file={policy}",
            "--authorization-mode=Node,RBAC",
            f"--client-ca-file={self.pki}/ca.crt",
            # As in OpenShift: who makes an owner wait for its children must have a right to the owner.
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
            f"--etcd-servers={etcd}",
            f"--kubelet-client-certificate={self.pki}/admin.crt",
            f"--kubelet-client-key={self.pki}/admin.key",
            "--kubelet-preferred-address-types=InternalIP",
            f"--secure-port={self.port}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.pki}/sa.pub",
            f"--service-account-signing-key-file={self.pki}/sa.key",
            f"--service-cluster-ip-range={manifests.SERVICE_NETWORK}",
            f"--tls-cert-file={self.pki}/api.crt",
            f"--tls-private-key-file={self.pki}/api.key",
            f"--token-auth-file={self.pki}/tokens.csv",
        )

    def _start_controllers(self) -> None:
        self.program(
            "kube-controller-manager",
            "--controllers=*",
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            "--node-monitor-grace-period=10s",  # the default is 50 s: here a lost node is noticed sooner
            "--node-monitor-period=2s",
            f"--root-ca-file={self.pki}/ca.crt",
            "--secure-port=0",
            f"--service-account-private-key-file={self.pki}/sa.key",
            "--use-service-account-credentials",
        )
        self.program("kube-scheduler", f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--secure-port=0")
