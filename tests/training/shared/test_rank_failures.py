"""What an exception of a rank is called: a peer that is gone is never the cause, memory is, the user's mistakes are theirs."""

from __future__ import annotations

import errno
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.rank_failures import MESSAGE_CHARACTERS, failure_of
from tests.support.patience import PATIENCE_SECONDS


class OutOfMemoryError(RuntimeError):
    """The error of a full device, named as torch names it."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ExpectedError(Reason.ARGUMENTS_INVALID, "no"), Reason.ARGUMENTS_INVALID),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), Reason.OUT_OF_MEMORY),
        (MemoryError(), Reason.OUT_OF_MEMORY),
        (RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1"), Reason.PEER_LOST),
        (ConnectionResetError(104, "Connection reset by peer"), Reason.PEER_LOST),
        (RuntimeError("NCCL error: remote process exited or there was a network error"), Reason.PEER_LOST),
        (RuntimeError("shape mismatch"), Reason.RANK_FAILED),
        (KeyError("labels"), Reason.RANK_FAILED),
    ],
)
def test_exceptions_have_names(error: BaseException, reason: Reason) -> None:
    failure = failure_of(error, rank=3)
    assert (failure.reason, failure.rank) == (reason, 3)
    assert failure.cause is (Cause.USER if reason is Reason.ARGUMENTS_INVALID else Cause.ERROR)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(errno.EIO, "Input/output error"), Cause.VOLUME),
        (OSError(errno.ESTALE, "Stale file handle"), Cause.VOLUME),
        (OSError(errno.EIO, "Input/output error", "/output/reviews/prepared/train.arrow"), Cause.VOLUME),
        (OSError(errno.EIO, "Input/output error", "/elsewhere/file"), Cause.ERROR),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), Cause.ERROR),
    ],
)
def test_unreadable_file_is_the_volumes_fault(error: OSError, cause: Cause) -> None:
    """A file that cannot be read for a while is the volume's fault, also where it has no name."""
    assert failure_of(error, rank=0, output=Path("/output")).cause is cause


def test_the_message_begins_and_ends_with_what_was_said() -> None:
    try:
        raise RuntimeError("x" * 5000 + " the end")
    except RuntimeError as error:
        failure = failure_of(error, rank=0)
    assert failure.message.startswith("RuntimeError: xxx")
    assert failure.message.endswith("the end")
    assert len(failure.message) <= MESSAGE_CHARACTERS


def _rank(rank: int, store: str, answers: Any) -> None:
    import os

    import torch
    import torch.distributed as dist

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    dist.all_reduce(torch.ones(1))
    if rank == 1:
        os._exit(1)
    try:
        for _ in range(100):
            dist.all_reduce(torch.ones(1))
    except RuntimeError as error:
        answers.put(failure_of(error, rank).reason)
        answers.close()
        answers.join_thread()
    os._exit(0)


def test_what_gloo_says_of_a_rank_that_died_is_known(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    ranks = [context.Process(target=_rank, args=(rank, str(tmp_path / "store"), answers)) for rank in range(2)]
    for process in ranks:
        process.start()
    assert answers.get(timeout=PATIENCE_SECONDS) is Reason.PEER_LOST
    for process in ranks:
        process.join()
