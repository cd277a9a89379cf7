"""What depends on a field of the run config is said at the field; digests and the comparison of trainings are made from it."""

from __future__ import annotations

from typing import Annotated, Any

import pytest

from finetune_trainer.contract.effects import Effect, UndeclaredEffectError, effects, parts
from finetune_trainer.contract.frozen_document import Document
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.launch.resume_decision import trains_the_same
from finetune_trainer.prepare.fingerprint import config_digest, data_key

BASE: dict[str, Any] = {
    "namespace": "default",
    "job": "reviews",
    "uid": "11111111-aaaa",
    "task": "text-classification",
    "model": {"name": "/data/model"},
    "dataset": {"name": "reviews"},
    "peft": {},
    "quantization": {},
    "early_stopping": {},
    "publish": {"repo_id": "me/reviews"},
    "script": {},
    "nodes": 1,
    "processes_per_node": 1,
    "accelerators": False,
    "output": "/output",
    "prepare": "inline",
}
OTHER_VALUES: dict[str, Any] = {
    "namespace": "other",
    "job": "other",
    "uid": "22222222-bbbb",
    "task": "fill-mask",
    "problem_type": "regression",
    "model.name": "/data/other",
    "model.revision": "v1",
    "dataset.name": "other",
    "dataset.config": "de",
    "dataset.revision": "v1",
    "dataset.files": {"train": ["/data/other.csv"]},
    "dataset.field": "data",
    "dataset.splits": {"train": "train[:10%]"},
    "dataset.columns": {"text": "review"},
    "dataset.label_columns": ["toxic"],
    "dataset.max_samples": {"train": 10},
    "dataset.validation_fraction": 0.1,
    "dataset.streaming": True,
    "preprocessing.max_length": 64,
    "preprocessing.max_source_length": 64,
    "preprocessing.max_target_length": 64,
    "preprocessing.source_prefix": "summarize: ",
    "preprocessing.source_language": "en",
    "preprocessing.target_language": "de",
    "preprocessing.padding": "max_length",
    "preprocessing.truncation_side": "left",
    "preprocessing.stride": 16,
    "preprocessing.packing": True,
    "preprocessing.whole_word_mask": True,
    "preprocessing.mask_probability": 0.3,
    "preprocessing.num_proc": 2,
    "training_arguments": {"learning_rate": 1e-4},
    "peft.r": 4,
    "peft.alpha": 32.0,
    "peft.dropout": 0.1,
    "peft.target_modules": ["all-linear"],
    "peft.save_merged": True,
    "early_stopping.patience": 3,
    "early_stopping.threshold": 0.1,
    "loss_weights": "balanced",
    "script.launcher": "python",
    "script.path": "/code/train.py",
    "script.module": "trl.scripts.sft",
    "script.arguments": ["--lr=0.1"],
    "script.requirements": ["trl==0.24.0"],
    "script.checkpoint_argument": "--resume_from_checkpoint",
    "script.model_output": "final",
    "script.progress_pattern": "(?P<step>[0-9]+)",
    "script.accelerate_config": {"mixed_precision": "bf16"},
    "script.preflight": True,
    "nodes": 2,
    "processes_per_node": 2,
    "accelerators": True,
    "device_memory_bytes": 1 << 34,
    "output": "/other",
    "checkpoint_interval_seconds": 60,
    "resume_from": "never",
    "prepare": "job",
    "peers": "reviews-{attempt}-{node}",
    "port": 8081,
    "grace_period_seconds": 60,
    "hub.endpoint": "https://hub.example.com",
    "hub.token_file": "/var/run/finetune/hub/token",
    "publish.repo_id": "me/other",
    "publish.private": True,
    "publish.revision": "v1",
    "publish.commit_message": "Better",
    "publish.deadline_seconds": 60,
}
ONE_VALUE = {"schema_version", "peft.method", "quantization.bits"}
"""Fields that have no other value today."""
EFFECTS = effects(TaskConfig)


def changed(path: str) -> TaskConfig:
    fields, (*parents, name) = TaskConfig.model_validate(BASE).model_dump(), path.split(".")
    holder = fields
    for parent in parents:
        holder = holder[parent]
    holder[name] = OTHER_VALUES[path]
    return TaskConfig.model_validate(fields)


def test_every_field_says_its_effect_and_is_changed_here() -> None:
    assert EFFECTS.keys() == OTHER_VALUES.keys() | ONE_VALUE


@pytest.mark.parametrize("path", OTHER_VALUES)
def test_a_change_has_the_effect_that_the_field_says_and_no_other(path: str) -> None:
    base, other, effect = TaskConfig.model_validate(BASE), changed(path), EFFECTS[path]
    assert base != other

    assert (config_digest(base) != config_digest(other)) == bool(effect & (Effect.CHECKS | Effect.RANKS))
    assert (_key(base) != _key(other)) == (Effect.TOKENS in effect)
    assert (not trains_the_same(base, other)) == bool(effect & (Effect.TRAINING | Effect.RANKS))


def _key(config: TaskConfig) -> str:
    """Return the name of the prepared data: `splits.find` hands the part of the dataset to it beside the data's version."""
    return data_key(config, data=parts(config, Effect.TOKENS)["dataset"], model="", limits=(None, None))


def test_a_field_that_says_nothing_is_refused() -> None:
    class Within(Document):
        silent: str = ""

    class Outer(Document):
        declared: Annotated[Within, Effect.CHECKS] = Within()
        within: Within | None = None

    with pytest.raises(UndeclaredEffectError, match=r"^Within.silent says nothing of its effect"):
        parts(Outer(), Effect.CHECKS)


def test_fields_of_a_document_have_its_effect_unless_they_say_another() -> None:
    class Within(Document):
        usual: str = "a"
        special: Annotated[str, Effect.NOTHING] = "b"

    class Outer(Document):
        within: Annotated[Within, Effect.CHECKS] = Within()

    assert parts(Outer(), Effect.CHECKS) == {"within": {"usual": "a"}}
