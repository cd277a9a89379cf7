"""Checks of a model's weights without loading them: are they there, whole, and may the pods read them?"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

from finetune_trainer.contract.records import Reason
from finetune_trainer.data import access
from finetune_trainer.data.data_errors import names
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.paths import to_pod

LOADED = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Files that transformers looks for, in this order; an index names the parts of a model."""
ADAPTER = "adapter_config.json"
GIT_LFS = b"version https://git-lfs"


def check(folder: Path, listing: Sequence[str], name: str) -> None:
    """Raise ExpectedError for what is wrong with the weights in `folder`, which holds `listing`; `name` is what messages call the model."""
    first = next((file for file in LOADED if file in listing), None)
    if first is None:
        hint = " It is an adapter: merge it into its base model and save that." if ADAPTER in listing else ""
        raise ExpectedError(
            Reason.MODEL_NOT_FOUND,
            f"{name} has no weights (model.safetensors); it holds {names(list(listing))}.{hint}",
        )
    files = _parts(folder / first, name) if first.endswith(".json") else [first]
    missing = [file for file in files if not (folder / file).exists()]
    if missing:
        raise _damaged(name, f"{first} names {names(missing)}, which {'is' if len(missing) == 1 else 'are'} not there")
    for file in files:
        refusal = access.refusal(folder / file, f"{to_pod(folder)}/{file}")
        if refusal:
            raise ExpectedError(Reason.MODEL_NOT_FOUND, f"{name} cannot be read: {refusal}")
        problem = _problem(folder / file)
        if problem:
            raise _damaged(name, f"{file} {problem}")


def _parts(index: Path, name: str) -> list[str]:
    refusal = access.refusal(index, to_pod(index))
    if refusal:
        raise ExpectedError(Reason.MODEL_NOT_FOUND, f"{name} cannot be read: {refusal}")
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(name, f"{index.name} is no index of weights ({error})") from error


def _problem(file: Path) -> str | None:
    from safetensors import SafetensorError, safe_open

    with file.open("rb") as opened:
        first = opened.read(len(GIT_LFS))
    if first == GIT_LFS:
        return "is a pointer of Git LFS in place of the weights; fetch them with `git lfs pull`"
    if file.suffix == ".safetensors":
        try:
            with safe_open(file, framework="np"):
                return None
        except SafetensorError as error:
            message = str(error).removeprefix("Error while deserializing header: ")
            return f"({file.stat().st_size} bytes) is not whole: {message}"
    if first.startswith(b"PK") and not zipfile.is_zipfile(file):
        return f"({file.stat().st_size} bytes) is not whole"
    return None if first else "is empty"


def _damaged(name: str, problem: str) -> ExpectedError:
    return ExpectedError(Reason.MODEL_NOT_FOUND, f"{name} has damaged weights: {problem}. Copy the model again.")
