"""Which failure of a node is the cause."""

import signal

import pytest

from finetune_trainer.contract.launch_protocol import RankResult
from finetune_trainer.contract.records import Cause, Failure, Outcome, Reason
from finetune_trainer.launch.cause import Evidence, classify, own_cause, rank_exits

TORCHRUN = """\
Traceback (most recent call last):
  File "train.py", line 3, in <module>
ImportError: libcudart.so.13
E0101 00:00:00.000 9 torch/distributed/elastic/multiprocessing/api.py:1002] \
failed (exitcode: {code}) local_rank: 1 (pid: 77) of binary: /usr/bin/python
Root Cause (first observed failure):
"""


def failed(rank: int, reason: Reason = Reason.RANK_FAILED, message: str = "ValueError: no") -> RankResult:
    failure = Failure(reason=reason, cause=Cause.ERROR, message=message)
    return RankResult(rank=rank, outcome=Outcome.FAILED, failure=failure)


def test_a_ranks_own_report_is_the_cause_and_is_placed() -> None:
    failure = classify(Evidence(node=1, results={2: failed(2)}, exits=[(2, 1)]))
    assert (failure.reason, failure.node, failure.rank) == (Reason.RANK_FAILED, 1, 2)


@pytest.mark.parametrize(
    "message",
    [
        "RuntimeError: [../gloo/transport/tcp/pair.cc:525] Connection closed by peer [10.0.0.2]:4711",
        "torch.distributed.DistBackendError: NCCL error: remote process exited or there was a network error",
        "torch.distributed.DistNetworkError: failed to recv, got 0 bytes",
        "RuntimeError: Broken pipe",
    ],
)
def test_a_lost_connection_is_never_the_cause_where_there_is_another(message: str) -> None:
    results = {0: failed(0, message=message), 1: failed(1, Reason.OUT_OF_MEMORY, "CUDA out of memory")}
    assert classify(Evidence(node=0, results=results)).reason is Reason.OUT_OF_MEMORY
    alone = classify(Evidence(node=0, results={0: results[0]}))
    assert alone.reason is Reason.PEER_LOST


def test_a_killed_rank_comes_before_its_peers_complaint() -> None:
    results = {0: failed(0, Reason.PEER_LOST, "connection reset by peer")}
    evidence = Evidence(node=0, results=results, exits=rank_exits(TORCHRUN.format(code=-9), 0), tails={1: "step 7"})
    failure = classify(evidence)
    assert (failure.reason, failure.rank, failure.signal) == (Reason.RANK_KILLED, 1, signal.SIGKILL)
    assert "SIGKILL" in failure.message
    assert "step 7" not in failure.message  # what it printed last has nothing to do with it
    crashed = Evidence(
        node=0, results=results, exits=rank_exits(TORCHRUN.format(code=-11), 0), tails={1: "Fatal Python error"}
    )
    assert "Fatal Python error" in classify(crashed).message


def test_killed_while_memory_ran_out() -> None:
    failure = classify(Evidence(node=0, results={}, exits=[(3, -9)], memory_kills=1))
    assert (failure.reason, failure.rank) == (Reason.OUT_OF_MEMORY, 3)
    assert "resources.limits.memory" in failure.message


def test_a_helper_process_that_ran_out_of_memory_is_named() -> None:
    results = {0: failed(0, Reason.PEER_LOST, "connection reset by peer")}
    assert classify(Evidence(node=0, results=results, memory_kills=1)).reason is Reason.OUT_OF_MEMORY


def test_a_connection_that_was_lost_is_no_cause_of_ones_own() -> None:
    results = {0: failed(0, message="RuntimeError: Connection closed by peer")}
    assert own_cause(Evidence(node=0, results=results)) is None
    assert own_cause(Evidence(node=0, results={}, torchrun_exit=1, torchrun_tail="DistStoreError: no answer")) is None
    killed = own_cause(Evidence(node=0, results=results, exits=[(1, -9)]))
    assert killed is not None
    assert (killed.reason, killed.rank) == (Reason.RANK_KILLED, 1)


def test_watchdog_abort_for_lost_peer_is_no_cause() -> None:
    """A watchdog that aborts a rank because its peer is gone is no cause."""
    template = "terminate called after throwing an instance of 'c10::DistBackendError'\n  what():  {}"
    gone = template.format("[PG ID 0 Rank 1] NCCL error: remote process exited or there was a network error")
    evidence = Evidence(node=0, results={}, exits=[(1, -6)], tails={1: gone})
    assert own_cause(evidence) is None
    assert classify(evidence).reason is Reason.PEER_LOST
    own = own_cause(Evidence(node=0, results={}, exits=[(1, -6)], tails={1: template.format("index out of bounds")}))
    assert own is not None
    assert own.reason is Reason.RANK_KILLED


def test_memory_that_other_nodes_share_names_nobody_who_was_not_killed() -> None:
    results = {0: failed(0, message="RuntimeError: Connection closed by peer")}
    assert own_cause(Evidence(node=0, results=results, memory_kills=1, memory_shared=True)) is None
    killed = own_cause(Evidence(node=0, results={}, exits=[(0, -9)], memory_kills=1, memory_shared=True))
    assert killed is not None
    assert killed.reason is Reason.OUT_OF_MEMORY


def test_an_exit_before_a_rank_could_speak_shows_what_it_printed() -> None:
    output = TORCHRUN.format(code=1)
    failure = classify(Evidence(node=0, results={}, exits=rank_exits(output, 2), torchrun_tail=output))
    assert (failure.reason, failure.rank, failure.exit_code) == (Reason.RANK_FAILED, 3, 1)
    assert "ImportError: libcudart.so.13" in failure.message
    assert "Root Cause" not in failure.message


def test_process_that_ended_itself_with_success_is_told_so() -> None:
    failure = classify(Evidence(node=1, results={}, torchrun_exit=0, tails={1: "all done"}))
    assert (failure.reason, failure.node, failure.exit_code) == (Reason.RANK_FAILED, 1, 0)
    assert "os._exit" in failure.message
    assert failure.message.endswith("Last lines:\nall done")


def test_torchrun_that_ends_without_a_word() -> None:
    failure = classify(Evidence(node=0, results={}, torchrun_exit=2, torchrun_tail="error: unrecognized arguments"))
    assert (failure.reason, failure.exit_code) == (Reason.RANK_FAILED, 2)
    assert "unrecognized arguments" in failure.message
