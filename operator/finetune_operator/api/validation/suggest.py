"""Suggestions for an unknown field: the nearest name, or the path where the name belongs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from typing import Any

from finetune_operator.api.deprecated import REMOVED
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.api.structural import Schema, structural_schema
from finetune_operator.api.training_arguments import LEFT_OUT
from finetune_operator.api.validation.problem import Kind, Problem


def unknown_field(field: str, name: str, schema: Schema) -> Problem:
    """Return the problem of a field that the object does not have."""
    known = list(schema.get("properties", {}))
    if same := [candidate for candidate in known if _plain(candidate) == _plain(name)]:
        return _meant(field, same)
    if field.lstrip(".").startswith("spec.") and (why := _why_not(name)):
        return Problem(field, Kind.UNKNOWN, why)
    if near := near_names(name, known, 1):
        return _meant(field, near)
    if name in OF_TUTORIALS and field.lstrip(".").startswith("spec."):
        path = OF_TUTORIALS[name]
        in_same_object = path.rpartition(".")[0] == field.lstrip(".").rpartition(".")[0]
        return _meant(field, [path.rpartition(".")[2] if in_same_object else path])
    if paths := [path for path in _spec_paths() if path.rpartition(".")[2] == name]:
        return _meant(field, paths[:2])
    if near := near_names(name, known) or get_close_matches(name, known, n=1, cutoff=0.7):
        return _meant(field, near)
    elsewhere = {path: path.rpartition(".")[2] for path in _spec_paths()}
    if near := near_names(name, tuple(elsewhere.values()), 1):
        return _meant(field, [path for path, last in elsewhere.items() if last in near][:2])
    if near := get_close_matches(name, known, n=1, cutoff=0.5):
        return _meant(field, near)
    return Problem(
        field, Kind.UNKNOWN, f"there is none in this version; `kubectl explain {_holder(field)}` tells what there is"
    )


OF_TUTORIALS: dict[str, str] = {
    # Name in the example scripts, in tutorials and in peft -> path of the field for it.
    "model_name_or_path": "spec.model.name",
    "model_name": "spec.model.name",
    "model_revision": "spec.model.revision",
    "dataset_name": "spec.dataset.name",
    "dataset_config_name": "spec.dataset.config",
    "dataset_config": "spec.dataset.config",
    "train_file": "spec.dataset.files.train",
    "validation_file": "spec.dataset.files.validation",
    "test_file": "spec.dataset.files.test",
    "data_files": "spec.dataset.files",
    "train_split_name": "spec.dataset.splits.train",
    "validation_split_percentage": "spec.dataset.validationFraction",
    "test_size": "spec.dataset.validationFraction",
    "max_train_samples": "spec.dataset.maxSamples.train",
    "max_eval_samples": "spec.dataset.maxSamples.validation",
    "max_predict_samples": "spec.dataset.maxSamples.test",
    "text_column": "spec.dataset.columns.text",
    "text_column_name": "spec.dataset.columns.text",
    "text_column_names": "spec.dataset.columns.text",
    "label_column": "spec.dataset.columns.label",
    "label_column_name": "spec.dataset.columns.label",
    "label_names": "spec.dataset.labelColumns",
    "summary_column": "spec.dataset.columns.summary",
    "question_column": "spec.dataset.columns.question",
    "context_column": "spec.dataset.columns.context",
    "answer_column": "spec.dataset.columns.answers",
    "max_seq_length": "spec.preprocessing.maxLength",
    "block_size": "spec.preprocessing.maxLength",
    "val_max_target_length": "spec.trainingArguments.generation_max_length",
    "num_beams": "spec.trainingArguments.generation_num_beams",
    "source_lang": "spec.preprocessing.sourceLanguage",
    "target_lang": "spec.preprocessing.targetLanguage",
    "forced_bos_token": "spec.preprocessing.targetLanguage",
    "doc_stride": "spec.preprocessing.stride",
    "pad_to_max_length": "spec.preprocessing.padding",
    "mlm_probability": "spec.preprocessing.maskProbability",
    "preprocessing_num_workers": "spec.preprocessing.numProc",
    "do_regression": "spec.problemType",
    "lora": "spec.peft",
    "lora_r": "spec.peft.r",
    "lora_alpha": "spec.peft.alpha",
    "lora_dropout": "spec.peft.dropout",
    "lora_target_modules": "spec.peft.targetModules",
    "load_in_4bit": "spec.quantization.bits",
    "early_stopping_patience": "spec.earlyStopping.patience",
    "early_stopping_threshold": "spec.earlyStopping.threshold",
    "class_weights": "spec.lossWeights",
}


def near_names(name: str, known: Iterable[str], most: int | None = None) -> list[str]:
    """Return the names that are fewest letters away, and at most `most` letters (default: one in three)."""
    allowed = most if most is not None else max(1, len(name) // 3)
    near = [candidate for candidate in known if abs(len(candidate) - len(name)) <= allowed]
    distances = {candidate: _distance(name, candidate) for candidate in near}
    least = min(distances.values(), default=allowed + 1)
    return [candidate for candidate, distance in distances.items() if distance == least] if least <= allowed else []


def _meant(field: str, names: Iterable[str]) -> Problem:
    return Problem(field, Kind.UNKNOWN, f"did you mean {' or '.join(names)}?")


def _why_not(name: str) -> str:
    """Say why an argument of the Trainer is no field of a job; empty where the name is no such argument."""
    if name in REMOVED:
        return f"is of older releases and has no successor: {REMOVED[name]}"
    return next((f"not offered: {why}" for why, names in LEFT_OUT.items() if name in names), "")


def _holder(field: str) -> str:
    """Name the object that a field is in, as `kubectl explain` knows it."""
    return re.sub(r"\[[^]]*\]", "", f"finetunejob.{field.lstrip('.')}").rpartition(".")[0]


def _distance(name: str, other: str) -> int:
    """Count the letters to add, drop, change or swap with their neighbour until one name is the other."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, left in enumerate(name, 1):
        two_before, before, row = before, row, [i]
        for j, right in enumerate(other, 1):
            steps = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (left != right))
            if two_before and j > 1 and left == other[j - 2] and name[i - 2] == right:
                steps = min(steps, two_before[j - 2] + 1)
            row.append(steps)
    return row[-1]


def nearest(value: Any, choices: Iterable[str]) -> str:
    """Write `; did you mean "x"?` where one of the choices is near, else nothing."""
    match = get_close_matches(value, list(choices), n=1) if isinstance(value, str) else []
    return f'; did you mean "{match[0]}"?' if match else ""


def _plain(name: str) -> str:
    """Return a name without the difference between snake_case and camelCase."""
    return name.replace("_", "").replace("-", "").lower()


@cache
def _spec_paths() -> tuple[str, ...]:
    """Return the path of every field of spec."""
    return tuple(_paths(structural_schema(FineTuneJobSpec), "spec"))


def _paths(schema: Schema, path: str) -> Iterator[str]:
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from _paths(child, f"{path}.{name}")
        if "items" in child:
            yield from _paths(child["items"], f"{path}.{name}[]")
