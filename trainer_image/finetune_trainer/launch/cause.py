"""The choice of the failure of a node that caused the others. Pure: evidence in, one Failure out.

When one rank fails, the others fail because of it, and torchrun may see one of them first: they are told apart by their messages.
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
    """Evidence that a node has when its ranks are over, or just before the node ends them: later reports only show that end."""

    node: int
    results: Mapping[int, RankResult]
    """Results by global rank."""
    exits: Sequence[tuple[int, int]] = ()
    """(global rank, exit code) in the order in which torchrun saw them; a negative code is a signal."""
    torchrun_exit: int | None = None
    memory_kills: int = 0
    """Processes that the kernel killed for memory during the attempt."""
    memory_shared: bool = False
    """Whether nodes share one machine's memory: then a kill that hit none of our ranks may be another node's."""
    tails: Mapping[int, str] = field(default_factory=dict)
    """Last lines of output, by rank."""
    torchrun_tail: str = ""
    data: Failure | None = None
    """Damage of the prepared data, found on reading it again: ranks map the data into memory, so a volume's error is a SIGBUS."""

    @property
    def bus_error(self) -> bool:
        """Whether a rank was ended by SIGBUS."""
        return any(_signal_of(code) == signal.SIGBUS for _, code in self.exits)


def rank_exits(torchrun_output: str, first_rank: int) -> list[tuple[int, int]]:
    """Return (global rank, exit code) of the ranks that torchrun saw fail."""
    matches = _TORCHRUN_EXIT.finditer(torchrun_output)
    return [(first_rank + int(match[2]), int(match[1])) for match in matches]


def before_remarks(torchrun_output: str) -> str:
    """Return what was printed before torchrun's own report on a failed rank."""
    match = _TORCHRUN_EXIT.search(torchrun_output)
    return torchrun_output[: torchrun_output.rfind("\n", 0, match.start()) + 1] if match else torchrun_output


def classify(evidence: Evidence) -> Failure:
    """Return the cause, as far as this node knows: the failure of its own ranks, else what they report of another's end."""
    own = own_cause(evidence)
    if own is not None:
        return own
    return next(chain(_reported_failures(evidence), _silent_failures(evidence)), None) or _torchrun_failure(evidence)


def own_cause(evidence: Evidence) -> Failure | None:
    """Return the failure of this node's own ranks: a rank's report, then a killed rank. None where only another node failed."""
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
    """Return a rank's failure with rank and node, as PEER_LOST where it only says that another rank is gone."""
    located = failure.model_copy(update={"rank": rank, "node": node})
    if failure.reason is Reason.RANK_FAILED and _BECAUSE_OF_A_PEER.search(failure.message):
        return located.model_copy(update={"reason": Reason.PEER_LOST, "cause": Cause.ERROR})
    return located


def _silent_failure(rank: int, code: int, evidence: Evidence) -> Failure:
    """Return the failure of a rank that ended without a report: by a signal, or by an error before it could report."""
    # What a rank printed before it had its own stream is in the output of torchrun, before torchrun's own remarks.
    tail = evidence.tails.get(rank) or before_remarks(evidence.torchrun_tail)
    number = _signal_of(code)
    if number == signal.SIGBUS and evidence.data is not None:
        return evidence.data.model_copy(update={"node": evidence.node, "rank": rank, "exit_code": code})
    if number == signal.SIGKILL and evidence.memory_kills:
        return _out_of_memory(evidence, rank)
    common = {"node": evidence.node, "rank": rank, "exit_code": code}
    if number is not None:
        # A killed process could say nothing: its last lines have nothing to do with its end.
        last = "" if number == signal.SIGKILL else _last_lines(tail)
        message = f"Rank {rank} was ended by {_signal_name(number)}.{last}"
        # NCCL's watchdog aborts a rank whose peer is gone, and says so.
        peer_is_gone = number == signal.SIGABRT and _BECAUSE_OF_A_PEER.search(last)
        reason = Reason.PEER_LOST if peer_is_gone else Reason.RANK_KILLED
        return Failure(reason=reason, cause=Cause.ERROR, message=message, signal=number, **common)
    reason = Reason.PEER_LOST if _BECAUSE_OF_A_PEER.search(tail) else Reason.RANK_FAILED
    message = f"Rank {rank} ended with exit code {code} without a report.{_last_lines(tail)}"
    return Failure(reason=reason, cause=Cause.ERROR, message=message, **common)


def _signal_of(code: int) -> int | None:
    """Return the signal that an exit code stands for."""
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
    if code == 0:
        last = next(filter(None, evidence.tails.values()), before_remarks(evidence.torchrun_tail))
        message = (
            "The program has ended its process itself with exit code 0 (os._exit, or by becoming another program), so whether it came "
            f"to its end is not known, and no model was taken. Let it end by its last line or sys.exit.{_last_lines(last)}"
        )
        return Failure(
            reason=Reason.RANK_FAILED, cause=Cause.ERROR, message=message, node=evidence.node, exit_code=code
        )
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
