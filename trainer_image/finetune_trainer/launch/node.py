"""The parts of one node's `launch`, and what they share: how the node's work ended.

The first end counts; `run` acts on it.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import structlog

from finetune_trainer.contract.frozen_document import PodPath
from finetune_trainer.contract.launch_protocol import NodeCheckpoint, RankProgress, RankResult
from finetune_trainer.contract.prepared import Prepared
from finetune_trainer.contract.records import Cause, Failure, Outcome, PodPhase, Reason
from finetune_trainer.launch.attempt_metrics import AttemptMetrics
from finetune_trainer.launch.background import Background
from finetune_trainer.launch.checkpoint_coordinator import CheckpointCoordinator, NodeCheckpointWriter
from finetune_trainer.launch.children import Children
from finetune_trainer.launch.launch_settings import Settings
from finetune_trainer.launch.node_roster import NodeRoster
from finetune_trainer.launch.output_watch import OutputWatch
from finetune_trainer.launch.peers import NodeZero, PeerLostError
from finetune_trainer.launch.progress_state import ProgressState
from finetune_trainer.launch.ranks import Ranks
from finetune_trainer.launch.sealing import SupersededError
from finetune_trainer.shared.checkpoints import manifest
from finetune_trainer.shared.checkpoints.manifest import BrokenError
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.paths import to_local, to_pod
from finetune_trainer.shared.volume import explain, has_worked, is_of_volume

OTHERS_SECONDS = 600.0
"""Time after the end of rank 0 of a user's own program in which the other ranks must have ended."""
_OTHERS_LOOK_SECONDS = 0.1
_LATE_NAMED_MAX = 10
_LINE_MAX = 300

log = structlog.get_logger()


class Ending(StrEnum):
    """The kinds of ends of a node's work."""

    RANKS_DONE = "ranks done"
    """Every local rank has reported, none of them a failure."""
    RANK_FAILED = "rank failed"
    TORCHRUN_ENDED = "torchrun ended"
    PEER_FAILED = "peer failed"
    PREPARE_FAILED = "prepare failed"
    STOPPED = "stopped"
    """SIGTERM or SIGINT."""
    SUPERSEDED = "superseded"
    NOTHING_TO_DO = "nothing to do"
    """An attempt before has sealed the model of this run."""
    BROKEN = "broken"
    """A defect, or a volume that can't be used: `Node.failure` says which."""


def in_short(failure: Failure | None) -> str:
    """Return the reason of a failure and the first line of its message, for the other nodes."""
    if failure is None:
        return "without a word"
    line = next(iter(failure.message.splitlines()), "")
    return f"{failure.reason}: {line[:_LINE_MAX]}"


class EndedError(Exception):
    """The node's work is over, as `Node.ended` says, before the attempt has begun."""


class NodeZeroParts(NamedTuple):
    roster: NodeRoster
    coordinator: CheckpointCoordinator


class Node:
    """One node of one attempt. It is made inside the event loop."""

    def __init__(self, settings: Settings, children: Children, client: NodeZero, temporary: Path) -> None:
        self.settings = settings
        self.children = children
        self.client = client
        self.temporary = temporary
        self.progress_state = ProgressState(settings.config.uid, settings.attempt)
        self.metrics = AttemptMetrics()
        self.ranks = Ranks(settings, children, temporary, self._printed)
        self.checkpoint_writer = NodeCheckpointWriter(settings, self.metrics, self._report_checkpoint, self.went_wrong)
        self.background = Background(self.went_wrong)
        first = settings.node == 0
        self.roster = NodeRoster(settings.config.nodes) if first else None
        self.coordinator = (
            CheckpointCoordinator(settings, self.progress_state, self.metrics, self.went_wrong) if first else None
        )
        self.output_watch = (
            OutputWatch(settings.layout.run, settings.config.world_size, self.coordinator.seal_written)
            if self.coordinator is not None
            else None
        )
        self.secret: str | None = None
        """Secret of the attempt, which other nodes must know to talk to this one."""
        self.failure: Failure | None = None
        self.data_failure: Failure | None = None
        """Damage of the prepared data, where a rank may have failed because of it."""
        self.fallen_peer: str | None = None
        """The other node that ended first and why, or that node 0 is lost."""
        loop = asyncio.get_running_loop()
        self.prepared: asyncio.Future[Prepared | Failure] = loop.create_future()
        self.ended: asyncio.Future[tuple[Ending, str]] = loop.create_future()
        self.stopped = asyncio.Event()
        """Set when a signal has come, before or after the end."""
        self._stop_time = 0.0
        self._sealed: dict[int, asyncio.Task[PodPath]] = {}
        """Checkpoints that ranks have asked for: each is read once for all ranks of a node."""

    def node_zero_parts(self) -> NodeZeroParts:
        """Return the parts that only node 0 has; its routes exist only there."""
        if self.roster is None or self.coordinator is None:
            raise RuntimeError("only node 0 answers this")
        return NodeZeroParts(self.roster, self.coordinator)

    def end(self, ending: Ending, text: str = "", failure: Failure | None = None) -> None:
        """End the node's work; only the first call counts."""
        if not self.ended.done():
            log.info("ending", because=ending.value, detail=text or None)
            self.failure = failure
            self.ended.set_result((ending, text))

    def peer_fell(self, text: str) -> None:
        """Note that another node has ended without success, or that node 0 is lost. The first one counts, even after our own end."""
        self.fallen_peer = self.fallen_peer or text
        self.end(Ending.PEER_FAILED, text)

    def stop(self) -> None:
        """End the node's work because of a signal: the grace period begins now."""
        self._stop_time = asyncio.get_running_loop().time()
        self.stopped.set()
        self.end(Ending.STOPPED)

    def seconds_left(self, reserve: float, limit: float) -> float:
        """Return the time that a step of the end may take: `limit`, or the rest of the grace period without a reserve."""
        if not self.stopped.is_set():
            return limit
        passed = asyncio.get_running_loop().time() - self._stop_time
        return max(0.0, min(limit, self.settings.config.grace_period_seconds - reserve - passed))

    def went_wrong(self, error: Exception) -> None:
        """End the node's work as an error beside the main line demands."""
        match error:
            case EndedError():
                return
            case SupersededError():
                self.end(Ending.SUPERSEDED, str(error))
            case PeerLostError():
                self.peer_fell(str(error))
            case ExpectedError(failure=failure):
                self.end(Ending.BROKEN, str(error), failure)
            case OSError() if is_of_volume(error, self.settings.layout.output):
                self.end(Ending.BROKEN, str(error), self.explained(error))
            case _:
                log.error("unexpected error", exc_info=error)
                text = "".join(traceback.format_exception(error))
                failure = Failure(reason=Reason.INTERNAL, cause=Cause.ERROR, message=text, node=self.settings.node)
                self.end(Ending.BROKEN, repr(error), failure)

    def explained(self, error: OSError) -> Failure:
        """Return the failure that an error of the volume means for this attempt."""
        failure = explain(error, self.settings.layout.output, worked=self.volume_has_worked())
        return failure.model_copy(update={"node": self.settings.node})

    def volume_has_worked(self) -> bool:
        """Return whether the volume holds something of this run: then it was set up well."""
        settings = self.settings
        return settings.config.prepare == "job" or self.progress_state.begun is not None or has_worked(settings.layout)

    def rank_reported(self, result: RankResult) -> None:
        """Take the result of a rank."""
        self.ranks.results[result.rank] = result
        self.progress_state.say(result.messages)
        if result.outcome is Outcome.FAILED:
            self.end(Ending.RANK_FAILED, f"rank {result.rank}: {in_short(result.failure)}")
        elif all(rank in self.ranks.results for rank in self.settings.local_ranks):
            self.end(Ending.RANKS_DONE)

    async def others_ended(self) -> str | None:
        """Wait until all ranks but 0 have reported that they ended well, or the node's work is over; name those that are late."""
        clock = asyncio.get_running_loop().time
        until = clock() + OTHERS_SECONDS
        while not self.ended.done():
            ranks = [rank for rank in self.settings.local_ranks if rank != 0 and rank not in self.ranks.results]
            ended = self.node_zero_parts().roster.ended
            nodes = [node for node in range(1, self.settings.config.nodes) if node not in ended]
            if not ranks and not nodes:
                return None
            if clock() >= until:
                late = [*(f"rank {rank}" for rank in ranks), *(f"node {node}" for node in nodes)]
                return ", ".join(late[:_LATE_NAMED_MAX])
            await asyncio.sleep(_OTHERS_LOOK_SECONDS)
        return None

    def _printed(self, report: RankProgress) -> None:
        """Take what rank 0 has printed of its progress."""
        if self.progress_state.absorb_printed(report, datetime.now(UTC)):
            self.metrics.absorb(report, time.time())

    def prepared_as(self, prepared: Prepared | Failure) -> None:
        """Take the result of preparing, good or bad."""
        self.prepared.set_result(prepared)
        if isinstance(prepared, Failure):
            self.end(Ending.PREPARE_FAILED, prepared.message, prepared)
        else:
            self.progress_state.prepared_as(prepared)
            if self.progress_state.phase is PodPhase.PREPARING:
                self.progress_state.phase = PodPhase.STARTING

    async def _report_checkpoint(self, report: NodeCheckpoint) -> None:
        if self.coordinator is not None:
            await self.coordinator.node_reported(report)
        else:
            await self.client.report_checkpoint(report)

    async def sealed(self, step: int) -> PodPath:
        """Return the path of a checkpoint once it is sealed and every byte of it was read. Raise BrokenError where it can't be used."""
        if step not in self._sealed:
            self._sealed[step] = asyncio.create_task(self._find_sealed(step))
        return await asyncio.shield(self._sealed[step])

    async def _find_sealed(self, step: int) -> PodPath:
        if self.coordinator is None:
            path = await self.client.checkpoint(step)
        else:
            folder = await asyncio.shield(self.coordinator.done(step))
            path = to_pod(folder) if folder else None
        if path is None:
            raise BrokenError("it is not on the volume")
        problem = await asyncio.to_thread(manifest.unfit, to_local(path))
        if problem is not None:
            raise BrokenError(problem)
        return path
