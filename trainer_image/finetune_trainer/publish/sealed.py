"""The model that is published: the one that training sealed last, if every byte of it is still what was sealed.

Only files whose names are those of a model's files go to the Hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import ValidationError

from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.training_report import PREDICTIONS_FILE, REPORT_FILE, TrainingReport
from finetune_trainer.shared.checkpoints import manifest
from finetune_trainer.shared.checkpoints.attempt_file import final_model, newest_attempt_record
from finetune_trainer.shared.checkpoints.manifest import BrokenError, Manifest
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.paths import to_pod
from finetune_trainer.shared.volume import Layout, read_document

MODEL_FILES = (
    # weights
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
    "adapter_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model-*.bin",
    "pytorch_model.bin.index.json",
    # configurations
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "preprocessor_config.json",
    "processor_config.json",
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
OUR_OWN = (REPORT_FILE, PREDICTIONS_FILE)
"""Files that training adds: its report, and predictions for the user's test data. Neither ever goes to the Hub."""


@dataclass(frozen=True)
class SealedModel:
    """A folder that was read and compared, byte by byte."""

    folder: Path
    manifest: Manifest
    report: TrainingReport | None
    """None where another release made the model, and left no report or one of another form: the card says less then."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files that are uploaded."""
        return tuple(name for name in sorted(self.manifest.files) if is_of_a_model(name))

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the other files in the folder, without those that training adds."""
        return tuple(name for name in sorted(self.manifest.files) if not is_of_a_model(name) and name not in OUR_OWN)

    @property
    def size_bytes(self) -> int:
        """Size of the files that are uploaded."""
        return sum(self.manifest.files[name].size for name in self.files)


def is_of_a_model(name: str) -> bool:
    """Tell whether a file of this name belongs to a model or its tokenizer."""
    return any(fnmatchcase(name, pattern) and name.count("/") == pattern.count("/") for pattern in MODEL_FILES)


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
    return SealedModel(folder, sealed, _report(folder, sealed))


def _report(folder: Path, sealed: Manifest) -> TrainingReport | None:
    if REPORT_FILE not in sealed.files:
        return None
    try:
        return read_document(folder / REPORT_FILE, TrainingReport)
    except ValidationError:  # it is sealed, so not damaged: another release made it
        return None


def _damaged(message: str) -> ExpectedError:
    return ExpectedError(Reason.MODEL_DAMAGED, message)
