"""What a rank says of the devices of its pod."""

from __future__ import annotations

import pytest

from finetune_trainer.train.device_messages import messages, too_few


@pytest.mark.parametrize(
    ("accelerators", "seen", "ranks", "message"),
    [
        (False, 0, 1, None),
        (False, 1, 1, "The pod sees 1 CUDA device, and training runs on the CPU"),
        (False, 8, 2, "The pod sees 8 CUDA devices, and training runs on the CPU"),
        (True, 1, 1, None),
        (True, 8, 8, None),
        (True, 8, 1, "The pod sees 8 CUDA devices, and training uses 1 of them: set spec.processesPerNode to 8"),
    ],
)
def test_devices_that_training_leaves_alone_are_said(
    accelerators: bool, seen: int, ranks: int, message: str | None
) -> None:
    notes = messages(accelerators=accelerators, seen=seen, ranks=ranks)
    assert notes == () if message is None else notes[0].startswith(message)


@pytest.mark.parametrize(("seen", "ranks", "enough"), [(2, 2, True), (8, 2, True), (1, 2, False)])
def test_ranks_without_a_device_each_are_told_why(seen: int, ranks: int, enough: bool) -> None:
    problem = too_few(seen=seen, ranks=ranks)
    assert problem is None if enough else "The pod has 2 ranks, and torch sees 1 CUDA device." in str(problem)
