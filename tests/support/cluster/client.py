"""A client of a cluster, with the same few members whether the tests started the cluster or found it."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.commands import CommandFailed, run, wait_for
from tests.support.patience import PATIENCE_SECONDS

REPOSITORY = Path(__file__).parents[3]


class Client:
    """A cluster as a user of it sees it."""

    def __init__(self, kubeconfig: Path, kubectl: Path | str = "kubectl") -> None:
        self.kubeconfig = kubeconfig
        self._kubectl = kubectl

    def kubectl(
        self, *args: str | Path, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the cluster's administrator."""
        return run(self._kubectl, f"--kubeconfig={self.kubeconfig}", *args, stdin=stdin, check=check)

    def get(self, *args: str) -> dict[str, Any]:
        """Run `kubectl get` for one object or list; return it parsed."""
        parsed: dict[str, Any] = json.loads(self.kubectl("get", *args, "--output=json").stdout)
        return parsed

    def apply(self, *objects: dict[str, Any], namespace: str | None = "default") -> None:
        """Apply manifests on the server's side; without a namespace, each in its own."""
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        where = [f"--namespace={namespace}"] if namespace else []
        self.kubectl("apply", "--server-side", "--force-conflicts", *where, "-f", "-", stdin=document)

    def install_crds(self) -> None:
        """Apply the project's resource definitions and wait until the server serves them."""
        folder = REPOSITORY / "crds"
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", folder)
        # kubectl does not wait for a definition that has no conditions yet: it fails.
        established = ("wait", "--for=condition=Established", f"--timeout={PATIENCE_SECONDS:.0f}s", "-f", folder)
        wait_for("the resource definitions", lambda: self.kubectl(*established))

    def create_namespace(self, name: str) -> None:
        """Make a namespace in which pods can be created at once."""
        self.kubectl("create", "namespace", name)
        wait_for(f"the service account of {name}", lambda: self._has_account(name))

    def delete_namespace(self, name: str) -> None:
        """Delete a namespace; its objects go in the background."""
        self.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")

    def kubeconfig_of(self, account: str, namespace: str, folder: Path) -> Path:
        """Write a kubeconfig for a service account: the audit log has the account's requests under its own name."""
        token = self.kubectl("create", "token", account, f"--namespace={namespace}", "--duration=4h").stdout.strip()
        config = json.loads(self.kubectl("config", "view", "--raw", "--minify", "--output=json").stdout)
        config["users"] = [{"name": config["contexts"][0]["context"]["user"], "user": {"token": token}}]
        path = folder / f"{namespace}-{account}.kubeconfig"
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        return path

    def _has_account(self, namespace: str) -> bool:
        self.kubectl("get", "serviceaccount", "default", f"--namespace={namespace}")
        return True


class ExistingCluster(Client):
    """The cluster of KUBECONFIG, on a machine that can't run its own. There is no audit log to read."""

    def __init__(self, kubeconfig: Path) -> None:
        super().__init__(kubeconfig)
        try:
            self.kubectl("version", "--request-timeout=10s")
        except (CommandFailed, FileNotFoundError) as error:
            raise LookupError(f"the cluster of KUBECONFIG={kubeconfig} does not answer to kubectl: {error}") from error
