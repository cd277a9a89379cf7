"""Two nodes, a rank of one of them falls: what both records say, and what the operator makes of them.

The other node's rank only loses its connection, and says so first, as gloo and NCCL do.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from finetune_operator.plan.observed.diagnosis import diagnose
from finetune_operator.plan.observed.gang import Gang
from finetune_trainer.contract.records import Outcome, Reason, ResultRecord
from finetune_trainer.shared.host import free_port
from tests.support.launched import START, Launches

OUT_OF_MEMORY = """
import sys
from pathlib import Path
from finetune_trainer.shared import host as machine
machine.out_of_memory_kills = lambda: int(Path({file!r}).exists())
"""
CANNOT_START = """
import sys
sys.argv[1] = "/nowhere/rank_program.py"
"""
LOST = {"reason": "PeerLost", "cause": "error", "message": "RuntimeError: Connection closed by peer"}
RAISED = {"reason": "RankFailed", "cause": "error", "message": "ValueError: no value"}


@dataclass(frozen=True)
class Fall:
    """A way in which a rank falls, and what is said of it."""

    reason: Reason
    message: str
    plan: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    start_code: str = ""


FALLS = {
    "raises": Fall(Reason.RANK_FAILED, "ValueError: no value", {"fail": {"step": 3, "failure": RAISED}}),
    "killed": Fall(Reason.RANK_KILLED, "SIGKILL", {"kill": {"step": 3, "signal": signal.SIGKILL}}, -signal.SIGKILL),
    "aborts": Fall(Reason.RANK_KILLED, "SIGABRT", {"kill": {"step": 3, "signal": signal.SIGABRT}}, -signal.SIGABRT),
    "out of memory": Fall(
        Reason.OUT_OF_MEMORY,
        "memory limit",
        {"kill": {"step": 3, "signal": signal.SIGKILL}},
        start_code=OUT_OF_MEMORY,
    ),
    "exits": Fall(Reason.RANK_FAILED, "no such device", {"exit": {"step": 3, "code": 3, "text": "no such device"}}, 3),
    "cannot start": Fall(Reason.RANK_FAILED, "can't open file", exit_code=2, start_code=CANNOT_START),
}


@pytest.mark.parametrize(("kind", "node"), [*((kind, 1) for kind in FALLS), ("killed", 0), ("cannot start", 0)])
def test_the_cause_is_told_with_node_and_rank(launches: Launches, tmp_path: Path, kind: str, node: int) -> None:
    fall, falling = FALLS[kind], str(tmp_path / "falling")
    launches.nodes = 2
    ports = [free_port("127.0.0.1") for _ in range(2)]
    # The one that falls lets the other speak first.
    falls = {**fall.plan, "leave": {"step": 3, "file": falling}, "sleep_at": {"step": 3, "seconds": 0.5}}
    loses = {"steps": 9, "await": {"step": 4, "file": falling}, "fail": {"step": 4, "failure": LOST}}
    (other,) = launches.start(plan={**loses, "wait_sealed": False}, only=(1 - node,), ports=ports)
    launches.start_code = fall.start_code.format(file=falling) + START
    (fallen,) = launches.start(plan={"steps": 9, **falls, "wait_sealed": False}, only=(node,), ports=ports)
    assert [other.wait(), fallen.wait()] == [1, 1]

    its = fallen.record().failure
    assert its is not None
    assert (its.reason, its.node, its.rank) == (fall.reason, node, node), its
    assert fall.message in its.message
    assert its.exit_code == fall.exit_code or fall.exit_code is None
    echo = other.record().failure
    assert echo is not None
    assert (echo.reason, echo.node) == (Reason.PEER_LOST, 1 - node)
    first_failure = verdict(fallen.record(), other.record())
    assert (first_failure.reason, first_failure.node, first_failure.rank) == (fall.reason, node, node)


def test_a_node_that_only_hears_of_the_fall_names_who_fell(launches: Launches) -> None:
    launches.nodes = 2
    ports = [free_port("127.0.0.1") for _ in range(2)]
    (first,) = launches.start(plan={"steps": 9999, "wait_sealed": False}, only=(0,), ports=ports)
    plan = {"steps": 9, "kill": {"step": 3, "signal": signal.SIGKILL}, "wait_sealed": False}
    (second,) = launches.start(plan=plan, only=(1,), ports=ports)
    assert [first.wait(), second.wait()] == [1, 1]
    record = first.record()
    assert record.outcome is Outcome.FAILED
    assert record.failure is not None
    assert record.failure.reason is Reason.PEER_LOST  # and not how its own rank was ended for it
    assert record.failure.message == "node 1 has ended: RankKilled: Rank 1 was ended by SIGKILL."


def verdict(*records: ResultRecord) -> Any:
    """Return what the operator makes of these records, and of nothing else."""
    gang = Gang("train", 1, 2, None, (), earlier={record.node: record for record in records}, earlier_known=True)
    return diagnose(gang).diagnosis
