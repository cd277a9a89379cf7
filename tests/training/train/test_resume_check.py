"""Going on from a checkpoint: after SIGKILL nothing differs from an undisturbed run; what cannot go on is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.data.sampler import GlobalBatchOrder
from finetune_trainer.shared.checkpoints import training_note
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.train import resume_check
from tests.support.checkpoints import prepared
from tests.support.ranks import Finished, run_ranks
from tests.support.runs import run_config
from tests.support.tiny import reviews, tiny_bert, write_rows

ARGUMENTS = {
    "num_train_epochs": 3,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "per_device_train_batch_size": 8,
    "save_strategy": "steps",
    "save_steps": 5,
    "lr_scheduler_type": "cosine",
}


ORDER = GlobalBatchOrder(lengths=np.ones(120, dtype=np.int32), batch_rows=16, seed=42)
ORDER_OF_OTHER_BATCH = replace(ORDER, batch_rows=8)


def prepared_by_older_release(finished: Finished) -> PreparedTask:
    """Return what an older release recorded, which did not tell one content from another."""
    labels = tuple(training_note.read(finished.checkpoint(20))["labels"])
    return prepared(labels).model_copy(update={"data_digest": None, "model_digest": None})


class Runs:
    """Runs of one job that differ in how they are started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._model = tiny_bert(folder / "initial", dropout=0.1)
        self._train = write_rows(folder / "train.csv", reviews(120))
        self._validation = write_rows(folder / "validation.jsonl", reviews(31, seed=1))

    def run(self, name: str, *, world: int, **options: Any) -> Finished:
        config = run_config(
            self._folder / "output",
            model=self._model,
            train=self._train,
            validation=self._validation,
            arguments={**ARGUMENTS, **options.pop("arguments", {})},
            processes=world,
            checkpoint_interval_seconds=options.pop("interval", 600),
        )
        return run_ranks(self._folder / name, config, world=world, **options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def undisturbed(runs: Runs) -> Finished:
    finished = runs.run("undisturbed", world=2)
    assert finished.returncode == 0, finished.output
    return finished


def weights(finished: Finished) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(finished.model / "model.safetensors"))


def test_killed_and_resumed_is_bit_identical(runs: Runs, undisturbed: Finished) -> None:
    step = 10  # within the second epoch of eight steps
    killed = runs.run("killed", world=2, kill_after_checkpoint=step)
    assert killed.returncode != 0
    assert not killed.heard.results
    resumed = runs.run("resumed", world=2, resume=killed.checkpoint(step))
    assert resumed.returncode == 0, resumed.output
    expected, actual = weights(undisturbed), weights(resumed)
    assert all((expected[name] == actual[name]).all() for name in expected)
    losses = [[entry for entry in finished.log() if "loss" in entry] for finished in (undisturbed, resumed)]
    assert losses[0] == losses[1]
    assert [entry["step"] for entry in losses[1]] == list(range(1, 25)), "no step missing, none twice"
    assert resumed.heard.last("samplesTotal") <= 360 - step * 16


def test_another_world_with_the_same_global_batch_goes_on(runs: Runs, undisturbed: Finished, tmp_path: Path) -> None:
    """The checkpoint is of an older release, whose order of rows is kept, in the checkpoints that follow as well."""
    arguments = {"per_device_train_batch_size": 16}
    older = Path(shutil.copytree(undisturbed.checkpoint(20), tmp_path / "checkpoint-20"))
    note = training_note.read(older)
    assert note.pop(resume_check.LONGEST_FIRST) is True
    (older / training_note.NOTE).write_text(json.dumps(note))
    resumed = runs.run("smaller", world=1, arguments=arguments, resume=older)
    assert resumed.returncode == 0, resumed.output
    assert [entry["step"] for entry in resumed.log() if "loss" in entry] == list(range(1, 25))
    assert training_note.read(resumed.checkpoint(24)) == note


def test_a_training_goes_on_in_the_order_in_which_it_began(undisturbed: Finished, tmp_path: Path) -> None:
    checkpoint = undisturbed.checkpoint(20)
    assert resume_check.order_of(checkpoint, ORDER) == ORDER
    older = Path(shutil.copytree(checkpoint, tmp_path / "checkpoint-20"))
    note = training_note.read(checkpoint)
    (older / training_note.NOTE).write_text(json.dumps({**note, resume_check.LONGEST_FIRST: None}))
    before = resume_check.order_of(older, ORDER)
    assert before == replace(ORDER, longest_first=False)
    resume_check.check(older, before, prepared_by_older_release(undisturbed))
    with pytest.raises(ExpectedError, match="longestFirst None"):
        resume_check.check(older, ORDER, prepared_by_older_release(undisturbed))


def test_another_global_batch_is_refused(undisturbed: Finished) -> None:
    with pytest.raises(ExpectedError) as raised:
        resume_check.check(undisturbed.checkpoint(20), ORDER_OF_OTHER_BATCH, prepared_by_older_release(undisturbed))
    assert (raised.value.reason, raised.value.cause) == (Reason.CHECKPOINT_MISMATCH, Cause.USER)
    assert "globalBatch 16 (now 8)" in str(raised.value)
    assert "resumeFrom: never" in str(raised.value)


@pytest.mark.parametrize("missing", ["optimizer.pt", "scheduler.pt", "finetune.json"])
def test_a_checkpoint_that_would_start_afresh_is_refused(missing: str, undisturbed: Finished, tmp_path: Path) -> None:
    resume_check.check(undisturbed.checkpoint(20), ORDER, prepared_by_older_release(undisturbed))
    damaged = Path(shutil.copytree(undisturbed.checkpoint(20), tmp_path / "checkpoint-20"))
    (damaged / missing).unlink()
    with pytest.raises(ExpectedError, match=missing) as raised:
        resume_check.check(damaged, ORDER, prepared_by_older_release(undisturbed))
    assert raised.value.reason is Reason.CHECKPOINT_MISMATCH


def test_a_checkpoint_tells_its_data_and_that_of_other_data_is_refused(undisturbed: Finished) -> None:
    """This check is the last line of defence: `launch` has looked before."""
    note = training_note.read(undisturbed.checkpoint(20))
    same = prepared(tuple(note["labels"]), note["data"], note["model"])
    assert training_note.difference(note, same) is None
    resume_check.check(undisturbed.checkpoint(20), ORDER, same)
    with pytest.raises(ExpectedError, match=r"other data \(classes .*; now other\)") as raised:
        resume_check.check(undisturbed.checkpoint(20), ORDER, prepared(("other",), "b", note["model"]))
    assert (raised.value.reason, raised.value.cause) == (Reason.CHECKPOINT_MISMATCH, Cause.USER)


def test_checkpoints_come_by_the_clock_where_none_are_asked_for(runs: Runs) -> None:
    arguments = {"save_strategy": None, "save_steps": None, "num_train_epochs": 60}
    finished = runs.run("timed", world=2, interval=1, arguments=arguments)
    assert finished.returncode == 0, finished.output
    steps = sorted({part["step"] for part in finished.heard.checkpoints})
    assert len(steps) >= 2
    assert {part["rank"] for part in finished.heard.checkpoints} == {0, 1}
    assert len(finished.heard.checkpoints) == 2 * len(steps), "both ranks save at the same steps"


def test_the_last_evaluation_runs_where_none_is_asked_for(undisturbed: Finished) -> None:
    assert set(undisturbed.heard.results[0]["evaluation"]) == {"loss", "accuracy", "f1"}
