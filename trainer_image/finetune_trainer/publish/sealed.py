"""The model that is published: the one that training sealed last, if every byte of it is still what was sealed.

Only files whose names are those of a model's files go to the Hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import ValidationError

from finetune_trainer.contract.prepared import Prepared, Resolved
from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.training_report import PREDICTIONS_FILE, REPORT_FILE, TrainingReport
from finetune_trainer.data.data_errors import names
from finetune_trainer.shared.checkpoints import manifest
from finetune_trainer.shared.checkpoints.attempt_file import final_model, newest_attempt_record
from finetune_trainer.shared.checkpoints.manifest import BrokenError, Manifest
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.paths import to_pod
from finetune_trainer.shared.volume import Layout, read_checked, read_document

CONFIG = "config.json"
WEIGHTS = (
    "model.safetensors",
    "model-*.safetensors",
    "adapter_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model-*.bin",
    # of programs of the user's own
    "*/adapter_model.safetensors",  # each adapter of several
    "adapter_model.bin",
    "pytorch_lora_weights.safetensors",
    "diffusion_pytorch_model*.safetensors",
    "model.pt",
    "model.pth",
    "*.keras",
    "model.h5",
    "*.weights.h5",
    "tf_model.h5",
    "tf_model-*.h5",
    "saved_model.pb",
    "flax_model.msgpack",
)
"""Patterns of names that a model's weights have: what has none of them is no model that anybody could load."""
MODEL_FILES = (
    *WEIGHTS,
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "tf_model.h5.index.json",
    "variables/variables.index",
    "variables/variables.data-*",
    # configurations
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "*/adapter_config.json",
    "metadata.json",
    "task.json",
    "preprocessor.json",
    "fingerprint.pb",
    "keras_metadata.pb",
    # code of a model that is not in transformers
    "configuration_*.py",
    "modeling_*.py",
    "tokenization_*.py",
    # sentences as vectors
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "[0-9]_*/config.json",
    "[0-9]_*/model.safetensors",
    # tokenizers
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
    "vocab.*",
    "merges.txt",
    "bpe.codes",
    "normalizer.json",
    "tekken.json",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece*.model",
    "*.bpe.model",
    "*.tiktoken",
    "*.spm",
)
ON_THE_WAY = re.compile(r"(checkpoint|ckpt|epoch|step|backup)s?([-_.0-9]|$)", re.IGNORECASE)
"""How files and folders begin that a program writes on its way to a model."""
LIBRARIES = {"adapter_config.json": "peft", "*.keras": "keras"}
"""Pattern of a file -> the library that loads what it belongs to."""
OUR_OWN = (REPORT_FILE, PREDICTIONS_FILE)
"""Files that training adds: its report, and predictions for the user's test data. Neither ever goes to the Hub."""


@dataclass(frozen=True)
class SealedModel:
    """A folder that was read and compared, byte by byte."""

    folder: Path
    manifest: Manifest
    report: TrainingReport | None
    """None where another release made the model, and left no report or one of another form, or a user's own program did: the card
    says less then."""
    resolved: Resolved
    """The commits that it was trained from, as far as they are known."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files that are uploaded."""
        return tuple(name for name in sorted(self.manifest.files) if is_of_a_model(name))

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the other files in the folder, without those that training adds."""
        return tuple(name for name in sorted(self.manifest.files) if not is_of_a_model(name) and name not in OUR_OWN)

    @property
    def library(self) -> str | None:
        """The library that loads the model; None where that can't be told."""
        for pattern, library in LIBRARIES.items():
            if any(fnmatchcase(name, pattern) for name in self.files):
                return library
        return "transformers" if _has_model_type(self.folder / CONFIG) and CONFIG in self.files else None

    @property
    def size_bytes(self) -> int:
        """Size of the files that are uploaded."""
        return sum(self.manifest.files[name].size for name in self.files)


def is_of_a_model(name: str) -> bool:
    """Tell whether a file of this name belongs to a model or its tokenizer."""
    return _fits(name, MODEL_FILES) and not any(ON_THE_WAY.match(part) for part in name.split("/"))


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) and name.count("/") == pattern.count("/") for pattern in patterns)


def _has_model_type(config: Path) -> bool:
    try:
        return isinstance(json.loads(config.read_text(encoding="utf-8")).get("model_type"), str)
    except (OSError, ValueError, AttributeError):  # a program may call anything by this name
        return False


def find(layout: Layout) -> SealedModel:
    """Return the final model of this run. Raise ExpectedError where there is none that is whole."""
    folder = final_model(layout.run)
    if folder is None:
        record = newest_attempt_record(layout.run)
        if record is None:
            raise _damaged(
                f"There is no trained model of this job on the volume: {to_pod(layout.run.folder)} holds none."
            )
        missing = record.model or to_pod(layout.run.attempt(record.attempt).model)
        raise _damaged(f"The trained model is no longer on the volume: there is no {missing}.")
    try:
        sealed = manifest.verified(folder)
    except (BrokenError, OSError) as error:
        reason = manifest.why(error)
        raise _damaged(
            f"The trained model in {to_pod(folder)} is not what was saved: {reason}. It is not published."
        ) from error
    report = _report(folder, sealed)
    model = SealedModel(folder, sealed, report, report.resolved if report is not None else _resolved(layout))
    if not any(_fits(name, WEIGHTS) for name in model.files):
        left = names(list(model.left_out)) or "nothing"
        raise ExpectedError(
            Reason.NOTHING_TRAINED,
            f"What the program has left holds no weights of a model, by the names of its files ({left}): let it save "
            "model.safetensors (save_pretrained does), model.keras or the like, or name the folder that holds them in "
            "spec.script.outputs.model.",
        )
    return model


def _resolved(layout: Layout) -> Resolved:
    """Read the commits that were prepared; without them the card says less."""
    try:
        prepared = read_checked(layout.run.prepared, Prepared)
    except (OSError, ValueError):
        prepared = None
    return Resolved() if prepared is None else prepared.resolved


def _report(folder: Path, sealed: Manifest) -> TrainingReport | None:
    if REPORT_FILE not in sealed.files:
        return None
    try:
        return read_document(folder / REPORT_FILE, TrainingReport)
    except ValidationError:  # it is sealed, so not damaged: another release made it
        return None


def _damaged(message: str) -> ExpectedError:
    return ExpectedError(Reason.MODEL_DAMAGED, message)
