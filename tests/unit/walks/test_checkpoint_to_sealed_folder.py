"""A walk through a checkpoint's life on the volume: staged by ranks, placed, sealed, and found again by the next attempt.

Read it from top to bottom. `launch/checkpoint_coordinator.py` calls the same functions, with HTTP between the nodes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_trainer.launch import sealing
from finetune_trainer.launch.resume_decision import decide
from finetune_trainer.launch.sealing import SupersededError
from finetune_trainer.shared.checkpoints import manifest
from finetune_trainer.shared.checkpoints.manifest import Manifest
from tests.support.checkpoints import START, begin, layout, run_config, seal, stage
from tests.support.damage import flip


def test_walk_checkpoint_to_sealed_folder_and_back(tmp_path: Path) -> None:
    # The claim is mounted. Each FineTuneJob object has a run there, named by its uid; attempt 1 begins when node 0 has written
    # its record, `attempts/1/attempt.json`. From here on attempt 1 alone writes below `attempts/1`.
    volume = layout(tmp_path)
    run, first = volume.run, volume.run.attempt(1)
    begin(run, 1)
    assert first.record_file.is_file()

    # The ranks write the checkpoint of step 10 into staging (mostly memory), tell their `launch`, and train on.
    names = stage(run, 1, step=10)
    final = first.checkpoint(10)

    # Each node places its ranks' files: digested, on disk, under a name that no reader looks at.
    files = sealing.place(first.staging / final.name, final, names)
    assert sorted(path.name for path in final.with_name("checkpoint-10.partial").iterdir()) == sorted(names)
    assert decide(volume, run_config(), attempt=2).resume is None, "killed now, nothing is lost but this step"

    # Node 0 has the lists of all nodes: it seals. The manifest comes last, then one rename gives the folder its name.
    sealing.seal(run, final, Manifest(step=10, attempt=1, world_size=2, time=START, files=files))
    assert manifest.verified(final).files == files, "every byte was read and compared"

    # The checkpoint of step 20 is sealed too; then the storage flips a bit of it.
    flip(seal(run, 1, step=20) / "model.safetensors")

    # The pods fall. Attempt 2 decides once what it goes on from: the newest that is what was sealed. The other is set aside.
    decision = decide(volume, run_config(), attempt=2)
    assert decision.resume is not None
    assert decision.resume.step == 10
    assert (run.broken / "attempt-1-checkpoint-20").is_dir()

    # Attempt 2 begins. Should attempt 1 live on behind a broken network, it is fenced: superseded, it seals nothing more.
    begin(run, 2, known=decision.known, resume=decision.resume)
    with pytest.raises(SupersededError):
        seal(run, 1, step=30)
    assert decide(volume, run_config(), attempt=3).resume == decision.resume
