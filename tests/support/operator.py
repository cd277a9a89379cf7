"""The operator as a process of its own, as it runs for users: started, watched, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from finetune_trainer.shared.host import free_port
from tests.support.commands import wait_for
from tests.support.patience import PATIENCE_SECONDS


class Operator:
    """`python -m finetune_operator`."""

    def __init__(
        self, kubeconfig: Path, log: Path, namespace: str | None, under: Sequence[str] = (), /, **settings: object
    ) -> None:
        """Start the operator; `under` is a command that starts it in turn."""
        self.log = log
        self.metrics_port = free_port("127.0.0.1")
        variables = {
            "kubeconfig": kubeconfig,
            "metrics_host": "127.0.0.1",
            "metrics_port": self.metrics_port,
            "progress_access": "direct",
            "progress_interval_seconds": 1,
            "lease": "",  # tests don't wait for one another's
            "log_level": "debug",
            **({"namespaces": f'["{namespace}"]'} if namespace else {}),
            **settings,
        }
        environment = {f"FINETUNE_OPERATOR_{name.upper()}": str(value) for name, value in variables.items()}
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                [*under, sys.executable, "-m", "finetune_operator"],
                env={**os.environ, **environment},
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )

    def wait_until_ready(self) -> None:
        wait_for(f"the operator (see {self.log})", self._ready, interval_seconds=0.02)

    def metrics(self) -> dict[str, float]:
        """Return the operator's samples by name and labels."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=PATIENCE_SECONDS
        ) as answer:
            lines = answer.read().decode().splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}

    def rss_bytes(self) -> int:
        """Return the operator's resident memory."""
        return int(self.metrics()["process_resident_memory_bytes"])

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE_SECONDS)

    def terminate(self) -> None:
        """Send SIGTERM, and wait for the end of the process."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_SECONDS)

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"the operator ended with {self.process.returncode}:\n{self.log.read_text()[-4000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/readyz", timeout=10) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as not_yet:
            not_yet.close()
            return False


@contextmanager
def running_operator(
    kubeconfig: Path, log: Path, namespace: str | None = None, **settings: object
) -> Iterator[Operator]:
    """Run an operator that serves one namespace (or all); end it with SIGKILL: nothing may depend on an orderly end."""
    operator = Operator(kubeconfig, log, namespace, **settings)
    try:
        operator.wait_until_ready()
        yield operator
    finally:
        if operator.process.poll() is None:
            operator.kill()
