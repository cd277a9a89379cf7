"""The operator's reconcile loop for one job and the local cluster: observe, decide, act, write the status.

Decisions are made by `plan.decide`, as on a real cluster. A watcher (a display, a log) gets every new status.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.cli.command_errors import CommandError, ExitCode
from finetune_operator.cli.local.cluster import LocalCluster
from finetune_operator.cli.local.state import OVER, State
from finetune_operator.plan.decide import decide
from finetune_operator.plan.observed import bounds
from finetune_operator.plan.types import Decision, EventNote, Manifest, Observed, PlanSettings, PodEvent, Ref
from finetune_trainer.contract.records import Progress

PROCESS_INTERVAL_SECONDS = 0.1
"""Time between two looks at the processes."""
PROGRESS_TIMEOUT_SECONDS = 1.0
DECISIONS_IN_A_ROW = 20
"""Decisions without a pause after which the plan is taken never to come to rest."""

StatusCallback = Callable[[Manifest, Progress | None, Sequence[EventNote]], None]
"""Called with the new status, the last progress, and the events of the step."""


@dataclass
class Interruption:
    """Number of times that the user asked for an end. It is a plain number, because the signal handler that sets it could
    deadlock with a lock.
    """

    count: int = 0


@dataclass
class Loop:
    """The loop of one job until it is over or interrupted."""

    body: dict[str, Any]
    """The manifest with its metadata."""
    settings: PlanSettings
    cluster: LocalCluster
    state: State
    watcher: StatusCallback
    interruption: Interruption
    references: dict[Ref, Manifest | None] = field(default_factory=dict)
    progress: Progress | None = None

    def run(self) -> bool:
        """Run the job; return whether it is over, or False where it was interrupted."""
        while not self.interruption.count:
            decision = self._step()
            if self.state.status.get("phase") in OVER:
                return True
            _require_valid(self.state.status)
            self._wait(decision.requeue_after_seconds)
        return False

    def _step(self) -> Decision:
        """Decide and act until the plan has nothing more to do now."""
        listed = read = False
        events: dict[str, tuple[PodEvent, ...]] = {}
        for _ in range(DECISIONS_IN_A_ROW):
            self.cluster.refresh()
            decision = decide(self._observe(listed, events))
            looked_up = [ref for ref in decision.wants_references if ref not in self.references]
            self.references |= {ref: self.cluster.reference(ref) for ref in decision.wants_references}
            again = bool(looked_up) or (decision.wants_list and not listed)
            again = again or any(uid not in events for uid in decision.wants_events)
            events |= dict.fromkeys(decision.wants_events, ())
            listed = listed or decision.wants_list
            for action in decision.actions:
                self.cluster.carry_out(action)
            if decision.wants_progress and not read:
                again, read = self._read_progress() or again, True
            self._write(decision)
            if not (again or decision.actions) or self.state.status.get("phase") in OVER:
                return decision
        raise CommandError("the plan does not come to rest; this is a defect, please report it", ExitCode.FAILED)

    def _observe(self, listed: bool, events: dict[str, tuple[PodEvent, ...]]) -> Observed:
        return Observed(
            job=FineTuneJob.parse({**self.body, "status": self.state.status}),
            now=datetime.now(UTC),
            settings=self.settings,
            objects=self.cluster.objects(),
            gone=frozenset(self.cluster.gone),
            references=self.references,
            events=events,
            progress=self.progress,
            listed=listed,
        )

    def _write(self, decision: Decision) -> None:
        changed = decision.status != self.state.status
        self.state.status = decision.status
        self.state.objects = self.cluster.saved()
        if changed or decision.actions:
            self.state.save()
        if changed or decision.events:
            self.watcher(decision.status, self.progress, decision.events)

    def _wait(self, requeue_after_seconds: float | None) -> None:
        """Wait until a process ends, the plan wants to look again, or the user interrupts."""
        until = time.monotonic() + (requeue_after_seconds if requeue_after_seconds is not None else 60)
        while time.monotonic() < until and not self.interruption.count:
            if self.cluster.refresh():
                return
            time.sleep(min(PROCESS_INTERVAL_SECONDS, max(0.0, until - time.monotonic())))

    def _read_progress(self) -> bool:
        """Ask node 0 for its progress; return whether that is new."""
        address = self.cluster.progress_address()
        if address is None:
            return False
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://{address}/progress", timeout=PROGRESS_TIMEOUT_SECONDS) as response:
                answer = Progress.model_validate_json(response.read(bounds.ANSWER_MAX_BYTES))
        except (urllib.error.URLError, OSError):
            return False  # the pod is starting or ending; the next reading is soon
        except ValidationError as error:
            raise CommandError(f"progress of {address} is not understood: {error}", ExitCode.FAILED) from error
        progress = bounds.progress(answer, FineTuneJob.parse(self.body), datetime.now(UTC))
        changed, self.progress = progress != self.progress, progress
        return changed


def _require_valid(status: Manifest) -> None:
    """Raise CommandError where something is missing: on a cluster the job would wait for it, here nobody else would bring it."""
    for condition in status.get("conditions", ()):
        if (condition["type"], condition["status"]) == ("Validated", "False"):
            raise CommandError(condition["message"], ExitCode.FAILED)
