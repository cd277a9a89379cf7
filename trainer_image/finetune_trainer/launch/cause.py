"""Which of a node's failures is the cause. Pure: evidence in, one Failure out.

When one rank fails the others fail because of it, often sooner than torchrun sees the first: their messages are known.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from finetune_trainer.contract.launch_protocol import RankResult
from finetune_trainer.contract.records import Cause, Failure, Outcome, Reason
from finetune_trainer.launch.last_words import last_words

_TORCHRUN_EXIT = re.compile(r"failed \(exitcode: (-?\d+)\) local_rank: (\d+) \(pid: (\d+)\)")
_BECAUSE_OF_A_PEER = re.compile(
    r"connection (reset|closed|refused) by peer|connection was likely closed|broken pipe|remote process exited"
    r"|ncclRemoteError|socketProgress|failed to (recv|connect)|Timed out (after|waiting) .*(store|rank|recv|send)"
    r"|DistNetworkError|DistStoreError|gloo.*(timed? ?out|closed)",
    re.IGNORECASE,
)
_SIGNAL_BASE = 128


@dataclass(frozen=True)
class Evidence:
    """What a node knows when its ranks are over, or when it ended them: what they say of that end is its own doing."""

    node: int
    results: Mapping[int, RankResult]
    """By global rank."""
    exits: Sequence[tuple[int, int]] = ()
    """(global rank, exit code) in the order in which torchrun saw them; a negative code is a signal."""
    torchrun_exit: int | None = None
    memory_kills: int = 0
    """Processes that the kernel killed for memory during the attempt."""
    memory_shared: bool = False
    """Whether nodes share one machine's memory: then a kill that hit none of our ranks may be another node's."""
    tails: Mapping[int, str] = field(default_factory=dict)
    """Last lines that each rank printed."""
    torchrun_tail: str = ""
    data: Failure | None = None
    """What is wrong with the prepared data, where it was looked at again: ranks read it as memory, so that an error of the
    volume ends them by SIGBUS.
    """

    @property
    def bus_error(self) -> bool:
        """Whether a rank was ended by SIGBUS."""
        return any(_signal_of(code) == signal.SIGBUS for _, code in self.exits)


def rank_exits(torchrun_output: str, first_rank: int) -> list[tuple[int, int]]:
    """(global rank, exit code) of the ranks that torchrun saw fail."""
    matches = _TORCHRUN_EXIT.finditer(torchrun_output)
    return [(first_rank + int(match[2]), int(match[1])) for match in matches]


def before_remarks(torchrun_output: str) -> str:
    """What was printed before torchrun reports a failed rank at length."""
    match = _TORCHRUN_EXIT.search(torchrun_output)
    return torchrun_output[: torchrun_output.rfind("\n", 0, match.start()) + 1] if match else torchrun_output


def classify(evidence: Evidence) -> Failure:
    """The cause, as far as this node can tell: what its own ranks fell by, else what they say of another's end."""
    own = own_cause(evidence)
    if own is not None:
        return own
    return next(chain(_reported_failures(evidence), _silent_failures(evidence)), None) or _torchrun_failure(evidence)


def own_cause(evidence: Evidence) -> Failure | None:
    """What this node's ranks fell by: a rank's own report, then a killed rank. None where only another node fell."""
    own = (failure for failure in _reported_failures(evidence) if failure.reason is not Reason.PEER_LOST)
    silent = (failure for failure in _silent_failures(evidence) if failure.reason is not Reason.PEER_LOST)
    memory = _out_of_memory(evidence, None) if evidence.memory_kills and not evidence.memory_shared else None
    return next(own, None) or next(silent, None) or memory


def _reported_failures(evidence: Evidence) -> Iterator[Failure]:
    for result in evidence.results.values():
        if result.outcome is Outcome.FAILED and result.failure is not None:
            yield _located_failure(result.failure, result.rank, evidence.node)


def _silent_failures(evidence: Evidence) -> Iterator[Failure]:
    for rank, code in evidence.exits:
        if rank not in evidence.results:
            yield _silent_failure(rank, code, evidence)


def _located_failure(failure: Failure, rank: int, node: int) -> Failure:
    """A rank's own report, but for one that only says that another rank is gone."""
    placed = failure.model_copy(update={"rank": rank, "node": node})
    if failure.reason is Reason.RANK_FAILED and _BECAUSE_OF_A_PEER.search(failure.message):
        return placed.model_copy(update={"reason": Reason.PEER_LOST, "cause": Cause.ERROR})
    return placed


def _silent_failure(rank: int, code: int, evidence: Evidence) -> Failure:
    """A rank that ended without a report: a signal, or an error before it could speak."""
    # What a rank printed before it had a stream of its own stands in torchrun's output, before its own remarks.
    tail = evidence.tails.get(rank) or before_remarks(evidence.torchrun_tail)
    number = _signal_of(code)
    if number == signal.SIGBUS and evidence.data is not None:
        return evidence.data.model_copy(update={"node": evidence.node, "rank": rank, "exit_code": code})
    if number == signal.SIGKILL and evidence.memory_kills:
        return _out_of_memory(evidence, rank)
    common = {"node": evidence.node, "rank": rank, "exit_code": code}
    if number is not None:
        # A killed process could say nothing: what it printed last has nothing to do with its end.
        last = "" if number == signal.SIGKILL else _last_lines(tail)
        message = f"Rank {rank} was ended by {_signal_name(number)}.{last}"
        # NCCL's watchdog aborts a rank whose peer is gone, and says so.
        echo = number == signal.SIGABRT and _BECAUSE_OF_A_PEER.search(last)
        reason = Reason.PEER_LOST if echo else Reason.RANK_KILLED
        return Failure(reason=reason, cause=Cause.ERROR, message=message, signal=number, **common)
    reason = Reason.PEER_LOST if _BECAUSE_OF_A_PEER.search(tail) else Reason.RANK_FAILED
    message = f"Rank {rank} ended with exit code {code} without a report.{_last_lines(tail)}"
    return Failure(reason=reason, cause=Cause.ERROR, message=message, **common)


def _signal_of(code: int) -> int | None:
    """The signal that an exit code tells of."""
    return -code if code < 0 else code - _SIGNAL_BASE if code > _SIGNAL_BASE else None


def _out_of_memory(evidence: Evidence, rank: int | None) -> Failure:
    who = f"Rank {rank}" if rank is not None else "A process of the pod"
    return Failure(
        reason=Reason.OUT_OF_MEMORY,
        cause=Cause.ERROR,
        message=f"{who} was killed by the kernel: the container's memory limit was reached. Raise "
        "`resources.limits.memory`, or lower `per_device_train_batch_size` or `dataloader_num_workers`.",
        node=evidence.node,
        rank=rank,
        signal=signal.SIGKILL,
    )


def _torchrun_failure(evidence: Evidence) -> Failure:
    code = evidence.torchrun_exit
    last = evidence.torchrun_tail or next(iter(evidence.tails.values()), "")
    reason = Reason.PEER_LOST if _BECAUSE_OF_A_PEER.search(evidence.torchrun_tail) else Reason.RANK_FAILED
    message = f"torchrun ended with exit code {code} and no rank reported success.{_last_lines(last)}"
    return Failure(reason=reason, cause=Cause.ERROR, message=message, node=evidence.node, exit_code=code)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_lines(tail: str) -> str:
    words = last_words(tail)
    return f" Last lines:\n{words}" if words.strip() else ""
