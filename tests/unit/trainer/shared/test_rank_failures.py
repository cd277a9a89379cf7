"""From exceptions of a rank to failures in the user's words."""

from __future__ import annotations

import errno
import os

import pytest

from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.shared.rank_failures import failure_of


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/output/model.safetensors"),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 549568 vs 549460"),
        RuntimeError("[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file data/3"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_a_full_volume(error: Exception) -> None:
    """The error was recorded on a volume without room: torch names positions in its file, and not the disk."""
    failure = failure_of(error, rank=1)
    assert (failure.reason, failure.cause, failure.rank) == (Reason.VOLUME_FULL, Cause.USER, 1)
    assert failure.message.startswith("The volume is full: ")


def test_any_other_error_is_the_ranks_own() -> None:
    failure = failure_of(ValueError("no loss"), rank=0)
    assert (failure.reason, failure.cause) == (Reason.RANK_FAILED, Cause.ERROR)
    assert failure.message.startswith("ValueError: no loss")
