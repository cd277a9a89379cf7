"""What a checkpoint notes of its training is what the fields of the prepared data say that training depends on."""

from __future__ import annotations

from finetune_trainer.contract.effects import Effect, effects
from finetune_trainer.contract.prepared import PreparedTask, PrepareSummary
from finetune_trainer.shared.checkpoints import training_note


def test_note_holds_each_field_that_training_depends_on() -> None:
    assert {
        name for name, effect in effects(PreparedTask).items() if Effect.TRAINING in effect
    } == training_note.KEYS.keys()


def test_note_is_as_earlier_releases_wrote_it() -> None:
    prepared = PreparedTask(
        config_digest="c",
        data="/d",
        data_digest="d" * 64,
        model="/m",
        model_digest=None,
        label_names=("no", "yes"),
        summary=PrepareSummary(train_rows=1),
    )

    assert list(training_note.of(prepared).items()) == [("data", "d" * 64), ("model", None), ("labels", ["no", "yes"])]
