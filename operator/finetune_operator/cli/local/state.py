"""The state that outlives one `finetune run`: identity and status of a job, its objects, and the lock that only one run holds.

The state lies in `<work-dir>/jobs/<name>/`. A job that is over, or whose manifest has changed, begins again with a new uid; any
other goes on as the same job. A training that succeeded is never repeated because publishing failed, whatever is changed
about publishing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from finetune_operator.cli.command_errors import CommandError
from finetune_operator.plan.types import Manifest

STATE_FILE = "state.json"
LOCK_FILE = "lock"
PODS = "pods"
OVER = ("Succeeded", "Failed")


@dataclass
class State:
    """State of one job in one work folder. It is written whole and renamed, so that a kill leaves the old state or the new one."""

    folder: Path
    uid: str
    spec_digest: str
    created: str
    status: Manifest
    objects: list[Manifest]
    """Jobs and Pods as they were last seen."""
    continued: bool = False
    """Whether an earlier `finetune run` began this job."""
    interrupted: datetime | None = None
    """Time at which the earlier run last wrote the state."""
    replaces: bool = False
    """Whether an earlier run with another manifest was interrupted."""
    retry: int = 0
    """Least value for `spec.retry`: a job whose publishing failed publishes again."""

    @property
    def pods(self) -> Path:
        """Folder with a folder for each pod: log, result record, exit code."""
        return self.folder / PODS

    def save(self) -> None:
        content = {
            "uid": self.uid,
            "specDigest": self.spec_digest,
            "created": self.created,
            "status": self.status,
            "objects": self.objects,
        }
        temporary = self.folder / f"{STATE_FILE}.tmp"
        temporary.write_text(json.dumps(content, indent=1))
        temporary.replace(self.folder / STATE_FILE)


def job_folder(work_dir: Path, name: str) -> Path:
    return work_dir / "jobs" / name


def load(work_dir: Path, name: str, spec: Mapping[str, Any]) -> State:
    """Return the state to go on from: that of the interrupted run of this manifest, else a new one. The caller holds the lock."""
    folder, digest = job_folder(work_dir, name), _digest(spec)
    earlier = _read(folder / STATE_FILE)
    unpublished = earlier is not None and trained_only(earlier["status"])
    unfinished = earlier is not None and (earlier["status"].get("phase") not in OVER or unpublished)
    if earlier is not None and unfinished and earlier["specDigest"] == digest:
        return State(
            folder=folder,
            uid=earlier["uid"],
            spec_digest=digest,
            created=earlier["created"],
            status=earlier["status"],
            objects=earlier["objects"],
            continued=True,
            interrupted=datetime.fromtimestamp((folder / STATE_FILE).stat().st_mtime, UTC),
            retry=earlier["status"].get("budget", {}).get("retry", 0) + unpublished,
        )
    shutil.rmtree(folder / PODS, ignore_errors=True)
    return State(
        folder=folder,
        uid=str(uuid.uuid4()),
        spec_digest=digest,
        created=datetime.now(UTC).isoformat(),
        status={},
        objects=[],
        replaces=unfinished,
    )


def trained_only(status: Mapping[str, Any]) -> bool:
    """Return whether the model is complete and publishing it has failed."""
    return status.get("phase") == "Failed" and "model" in status


def without_pause(status: Manifest, pause: timedelta) -> Manifest:
    """Return the status without the time in which the job was interrupted: deadlines do not count it.

    Nor does a job that is started again by hand wait because of attempts that were ended by hand.
    """
    if "budget" not in status:
        return status
    budget = {**status["budget"], "fruitless": 0}
    for moment in ("started", "publishStarted"):
        if budget.get(moment):
            budget[moment] = (datetime.fromisoformat(budget[moment]) + pause).isoformat()
    return {**status, "budget": budget}


def with_new_round(status: Manifest) -> Manifest:
    """Return the status with another round of attempts ahead: a user who starts a job again may have corrected its data."""
    attempt = status.get("attempt")
    if not attempt or "model" in status:
        return status
    ahead = {"firstAttempt": attempt + 1, "firstPrepare": status.get("prepareAttempt", 0) + 1}
    passed = ("attemptStarted", "attemptBegun", "attemptEnded")
    kept = {name: value for name, value in status.items() if name not in passed}
    return {**kept, "budget": {**status.get("budget", {}), **ahead}}


@contextmanager
def locked(work_dir: Path, name: str) -> Iterator[None]:
    """Hold the job for this process. The kernel releases it with the process, however that ends."""
    folder = job_folder(work_dir, name)
    try:
        (folder / PODS).mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK_FILE).open("a+")
    except OSError as error:
        raise CommandError(
            f"--work-dir: {work_dir} can't be written to ({error.strerror}); name another folder"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            text = f"job {name} is already running here (process {holder}); wait for it, or choose another --work-dir"
            raise CommandError(text) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _digest(spec: Mapping[str, Any]) -> str:
    """Return a digest of all that training depends on: repository, token and retry may be changed to publish a trained model."""
    hub = {name: value for name, value in (spec.get("hub") or {}).items() if name != "tokenSecretRef"}
    trained = {name: value for name, value in spec.items() if name not in ("publish", "retry", "hub")}
    return hashlib.sha256(json.dumps(trained | ({"hub": hub} if hub else {}), sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return content
