"""A kubelet, and the training container, played for pods of a control plane without nodes.

The pods are real objects and their status goes through the real API server; only no node runs them. Node 0 answers
`/progress` on a loopback address that is its pod IP.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from finetune_trainer.contract.records import Outcome, PodPhase, Progress, ResultRecord
from tests.support.api import Api, ApiFailed, Manifest
from tests.support.serving import Handler, serving

PORT = 8080
IMAGE = "docker.io/finetune/trainer:dev"
IMAGE_ID = "sha256:" + "0" * 64


class PlayedKubelet:
    """The kubelet of the pods of one FineTuneJob. Use as a context, so that its servers end."""

    _addresses = 0

    def __init__(self, api: Api, job: str) -> None:
        self.api = api
        self.job = job
        self.progress: dict[int, Progress] = {}
        """Attempt -> answer of its node 0."""
        self._servers = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._servers.close()

    def pods(self, attempt: int, role: str = "train") -> list[Manifest]:
        """Return the attempt's pods by index."""
        selector = f"finetune.dev/job={self.job},finetune.dev/role={role},finetune.dev/attempt={attempt}"
        pods = self.api.list("Pod", labelSelector=selector)
        return sorted(
            pods,
            key=lambda pod: int(
                pod["metadata"].get("annotations", {}).get("batch.kubernetes.io/job-completion-index", 0)
            ),
        )

    def run(self, attempt: int, role: str = "train") -> list[Manifest]:
        """Give all pods of the attempt an address and a running container."""
        return [self._start(pod, attempt, index) for index, pod in enumerate(self.pods(attempt, role))]

    def report(self, attempt: int, step: int = 0, total_steps: int = 100, **more: Any) -> None:
        """Report that node 0 has begun, and trains."""
        body = self.api.get("FineTuneJob", self.job)
        assert body is not None
        now = datetime.now(UTC)
        begun = self.progress[attempt].begun if attempt in self.progress else now
        values = {
            "phase": PodPhase.TRAINING,
            "begun": begun,
            "updated": now,
            "step": step,
            "total_steps": total_steps,
            **more,
        }
        self.progress[attempt] = Progress(uid=body["metadata"]["uid"], attempt=attempt, **values)

    def succeed(self, attempt: int, role: str = "train", **more: Any) -> None:
        """End all pods with a record of success."""
        for index, pod in enumerate(self.pods(attempt, role)):
            self.end(pod, self.record(attempt, role, index, Outcome.SUCCEEDED, **more))

    def crash(self, pod: Manifest, exit_code: int = 1) -> None:
        """End the container without a record."""
        self._terminate(pod, exit_code, "")

    def end(self, pod: Manifest, record: ResultRecord) -> None:
        """End the container with this record."""
        self._terminate(pod, 0 if record.outcome is Outcome.SUCCEEDED else 1, record.to_json())

    def record(self, attempt: int, role: Any, index: int, outcome: Outcome, **more: Any) -> ResultRecord:
        """Return the result record of a node's container; `more` is of node 0 alone."""
        body = self.api.get("FineTuneJob", self.job)
        assert body is not None
        now = datetime.now(UTC)
        if index == 0 and role == "train" and outcome is Outcome.SUCCEEDED:
            more.setdefault("model_path", f"/output/{self.job}/runs/{body['metadata']['uid']}/attempts/{attempt}/model")
        return ResultRecord(
            role=role,
            uid=body["metadata"]["uid"],
            attempt=attempt,
            node=index,
            outcome=outcome,
            started=now,
            finished=now,
            **(more if index == 0 else {}),
        )

    def _start(self, pod: Manifest, attempt: int, index: int) -> Manifest:
        address = self._serve(attempt) if index == 0 else self._address()
        state = {"running": {"startedAt": _now()}}
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "startTime": _now()}
        return self._write(pod, {**status, **_containers(state, ready=True)})

    def _terminate(self, pod: Manifest, exit_code: int, message: str) -> None:
        ended = {"exitCode": exit_code, "reason": "Completed" if exit_code == 0 else "Error", "message": message}
        state = {"terminated": {**ended, "startedAt": _now(), "finishedAt": _now()}}
        try:
            self._write(pod, {"phase": "Succeeded" if exit_code == 0 else "Failed", **_containers(state, ready=False)})
        except ApiFailed as error:
            if error.status != 404:  # the cluster was quicker: it deletes the other pods of a gang when one fails
                raise

    def _write(self, pod: Manifest, status: Manifest) -> Manifest:
        return self.api.patch("Pod", pod["metadata"]["name"], {"status": status}, "status")

    def remove(self, pod: Manifest) -> None:
        """Remove the pod, whose containers are gone: kubelet confirms its deletion."""
        try:
            self.api.delete("Pod", pod["metadata"]["name"], gracePeriodSeconds=0)
        except ApiFailed as error:
            if error.status != 404:
                raise

    @classmethod
    def _address(cls) -> str:
        """Return a loopback address that only this process uses: tests of several processes may run on a machine."""
        cls._addresses += 1
        return f"127.{16 + os.getpid() % 200}.{os.getpid() // 200 % 250}.{cls._addresses % 250 + 1}"

    def _serve(self, attempt: int) -> str:
        address = self._address()
        self._servers.enter_context(serving(_Handler, address, PORT, progress=self.progress, attempt=attempt))
        return address


class _Handler(Handler):
    progress: dict[int, Progress]
    attempt: int

    def serve(self) -> None:
        progress = self.progress.get(self.attempt)
        status = 200 if progress and self.path == "/progress" else 503
        self.answer(status, progress.to_json().encode() if progress else b"{}")


def _containers(state: Manifest, *, ready: bool) -> Manifest:
    container = {
        "name": "trainer",
        "image": IMAGE,
        "imageID": IMAGE_ID,
        "restartCount": 0,
        "ready": ready,
        "state": state,
    }
    conditions = [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": _now()}]
    return {"containerStatuses": [container], "conditions": conditions}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
