"""A record of all that happens in one namespace, as watches show it, with the objects that were deleted."""

from __future__ import annotations

import json
import ssl
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from finetune_operator.api.resource import LABEL_JOB
from finetune_operator.controller.cache import as_first_deleted
from tests.support.api import Api, Manifest
from tests.support.cluster.client import Client
from tests.support.commands import wait_for
from tests.support.patience import PATIENCE_SECONDS

KINDS = ("FineTuneJob", "Job", "Pod", "Event")


class Recorder:
    """A recorder of the FineTuneJobs of a namespace with their Jobs, pods and events. Use as a context."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._ended = threading.Event()
        self._streams: list[Any] = []
        self._threads = [threading.Thread(target=self._follow, args=(kind,), daemon=True) for kind in KINDS]
        self.versions: dict[str, list[Manifest]] = {}
        """FineTuneJob -> all states that it has had."""
        self.objects: dict[str, Manifest] = {}
        """uid -> the last state of a Job, pod or event."""
        self.gone: set[str] = set()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        wait_for("the watches", lambda: len(self._streams) == len(KINDS))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()

    def children(self, job: str) -> list[Manifest]:
        """Return jobs and pods of a FineTuneJob."""
        items = (item for item in list(self.objects.values()) if item["kind"] in ("Job", "Pod"))
        return [item for item in items if item["metadata"].get("labels", {}).get(LABEL_JOB) == job]

    def pods(self, job: str) -> list[Manifest]:
        return [item for item in self.children(job) if item["kind"] == "Pod"]

    def events_about(self, uid: str) -> list[Manifest]:
        """Return the events about an object, oldest first."""
        events = [item for item in list(self.objects.values()) if item["kind"] == "Event"]
        about = [event for event in events if event["involvedObject"].get("uid") == uid]
        return sorted(about, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")

    def first(self, job: str, true: Callable[[Manifest], bool]) -> Manifest | None:
        """Return the first state of a job of which this is true."""
        return next((version for version in list(self.versions.get(job, ())) if true(version)), None)

    def newest(self, job: str) -> Manifest:
        return self.versions[job][-1]

    def _follow(self, kind: str) -> None:
        address = f"{self._api.server}/{self._api.path(kind)}?watch=true&timeoutSeconds=1800"
        request = urllib.request.Request(address, headers={"Authorization": f"Bearer {self._api.token}"})  # noqa: S310
        context = ssl.create_default_context(cafile=self._api.authority)
        with self._opened(request, context) as stream:
            self._streams.append(stream)
            for line in stream:
                if self._ended.is_set():
                    return
                change = json.loads(line)
                self._take(change["type"], {"kind": kind, **change["object"]})

    def _opened(self, request: urllib.request.Request, context: ssl.SSLContext) -> Any:
        """Open the stream once the API server allows it: it answers 429 for a moment where the kind was just defined."""
        while True:
            try:
                return urllib.request.urlopen(request, context=context)  # noqa: S310
            except urllib.error.HTTPError as error:
                with error:
                    if error.code != 429 or self._ended.wait(float(error.headers.get("Retry-After", 1))):
                        raise

    def _take(self, change: str, item: Manifest) -> None:
        metadata = item["metadata"]
        if item["kind"] == "FineTuneJob":
            self.versions.setdefault(metadata["name"], []).append(item)
            return
        self.objects[metadata["uid"]] = as_first_deleted(item, self.objects.get(metadata["uid"]))
        if change == "DELETED":
            self.gone.add(metadata["uid"])


@contextmanager
def restricted_namespace(cluster: Client, name: str) -> Iterator[str]:
    """Make a namespace for the tests of one module, with the restricted Pod Security Standard; it is gone afterwards."""
    namespace = f"{name}-{uuid.uuid4().hex[:8]}"
    cluster.create_namespace(namespace)
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    try:
        yield namespace
    finally:
        cluster.kubectl("delete", "namespace", namespace, f"--timeout={PATIENCE_SECONDS:.0f}s")


def sayings(job: Manifest) -> list[tuple[str, str]]:
    """Return (reason, message) of a FineTuneJob's failure and of the conditions that do not hold."""
    status = job.get("status") or {}
    stages = [item for item in status.get("conditions", ()) if item["type"] in ("Prepared", "Running", "Published")]
    reasons = [(stage["reason"], stage["message"]) for stage in stages if stage["status"] == "False"]
    failure = status.get("failure")
    return [*reasons, *([(failure["reason"], f"{failure['message']} {failure['resolution']}")] if failure else [])]


def says(reason: str, message: str, job: Manifest) -> bool:
    """Return whether a state of a FineTuneJob says this."""
    return any(word == reason and message in text for word, text in sayings(job))
