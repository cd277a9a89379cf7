"""The model as `prepare` needs it: its configuration, its tokenizer, its limit; weights are checked, not loaded.

Knows nothing of tasks and data.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_trainer.contract.frozen_document import PodPath
from finetune_trainer.contract.records import Reason
from finetune_trainer.data import access, weights
from finetune_trainer.data.data_errors import names
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.paths import to_local, to_pod

NO_LIMIT = 1_000_000
"""The limit from which on a tokenizer has none of its own: such tokenizers say 10^30."""
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_encoder_position_embeddings")
"""Names that configurations have for the number of positions."""
BEHIND_PADDING = frozenset(
    [
        *(
            "camembert",
            "data2vec-text",
            "esm",
            "ibert",
            "layoutlmv3",
            "lilt",
            "longformer",
            "luke",
            "markuplm",
            "mpnet",
        ),
        *("prophetnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
    ]
)
"""Kinds that number positions from behind the padding index, so that fewer tokens fit than there are positions. `prepare` imports no
torch and can't ask the embeddings; a test asks the embeddings of every kind that transformers has.
"""
FIXED_PADDING = {"mpnet": 1}
"""Kinds among them with a padding index of their own, whatever the configuration says."""


@dataclass(frozen=True)
class ModelDescription:
    folder: Path
    name: str
    """The model's name in messages."""
    config: Any
    tokenizer: Any
    max_tokens: int | None
    """The longest row that the model can read; None where it has no limit."""
    tokenizer_digest: str


def local_model(path: PodPath) -> Path:
    """Return the folder of a model on a mounted volume. Raise ExpectedError with what is wrong with it."""
    folder = on_volume(path)
    if not folder.is_dir():
        raise ExpectedError(Reason.MODEL_NOT_FOUND, f"{path} is a file; spec.model.name takes the folder of a model.")
    return folder


def on_volume(path: PodPath) -> Path:
    """Return a model on a mounted volume, a folder or a file. Raise ExpectedError where it can't be read."""
    place = to_local(path)
    refusal = access.refusal(place, path)
    if refusal:
        raise ExpectedError(Reason.MODEL_NOT_FOUND, f"The model {path} cannot be read: {refusal}")
    if not place.exists():
        parent = place.parent
        siblings = names(sorted(entry.name for entry in parent.iterdir())) if parent.is_dir() else None
        hint = (
            f"{os.path.dirname(path)} holds {siblings or 'nothing'}."
            if siblings is not None
            else "Is the volume mounted?"
        )
        raise ExpectedError(Reason.MODEL_NOT_FOUND, f"The model folder {path} does not exist. {hint}")
    return place


def load(folder: Path, name: str) -> ModelDescription:
    """Load configuration and tokenizer of the model in `folder`."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoTokenizer

    refusal = access.refusal(folder, to_pod(folder))
    if refusal:
        raise ExpectedError(Reason.MODEL_NOT_FOUND, f"{name} cannot be read: {refusal}")
    files = sorted(entry.name for entry in folder.iterdir())
    if "config.json" not in files:
        raise ExpectedError(
            Reason.MODEL_NOT_FOUND, f"{name} is no model: it has no config.json; it holds {names(files) or 'nothing'}."
        )
    weights.check(folder, files, name)
    tokenizer_files = [entry for entry in files if _is_tokenizer_file(entry)]
    _require_readable(folder, ["config.json", *tokenizer_files], name)
    try:
        # Without this argument transformers asks on the terminal whether it may run remote code.
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError, KeyError, TypeError, AttributeError, StrictDataclassError) as error:
        raise ExpectedError(
            Reason.MODEL_NOT_FOUND, f"{name}: its configuration cannot be used: {_one_line(error)}"
        ) from error
    missing = ExpectedError(
        Reason.MODEL_NOT_FOUND,
        f"{name} has no tokenizer (tokenizer.json, vocab.txt, ...); it holds {names(files)}. "
        "Save one beside it with tokenizer.save_pretrained().",
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        if not tokenizer_files:
            raise missing from error
        raise ExpectedError(
            Reason.MODEL_NOT_FOUND, f"{name}: its tokenizer cannot be loaded: {_one_line(error)}"
        ) from error
    # A tokenizer of bytes or characters has no vocabulary. Any other is made empty where its files are missing.
    if not tokenizer_files and type(tokenizer).vocab_files_names:
        raise missing
    return ModelDescription(
        folder, name, config, tokenizer, max_tokens(config, tokenizer), _digest(folder, tokenizer_files)
    )


def _one_line(error: Exception) -> str:
    """Write an error's text on one line. Its advice on code that comes with a model is replaced: such code never runs here."""
    text = " ".join(str(error).split())
    if "trust_remote_code" in text:
        return (
            "it brings code of its own, which is not run here. Choose a model of an architecture that transformers has."
        )
    return text or type(error).__name__


def _require_readable(folder: Path, files: list[str], name: str) -> None:
    for file in files:
        refusal = access.refusal(folder / file, f"{to_pod(folder)}/{file}")
        if refusal:
            raise ExpectedError(Reason.MODEL_NOT_FOUND, f"{name} cannot be read: {refusal}")


def _is_tokenizer_file(name: str) -> bool:
    stems = ("tokenizer.", "vocab.", "merges.", "spiece.", "sentencepiece", "tekken.")
    return name.startswith(stems) or name.endswith((".tiktoken", "tokenizer.model", ".bpe.model"))


def text_config(config: Any) -> Any:
    """Return the configuration of the model's text: a part of the whole, where the model reads pictures or sounds too."""
    try:
        return config.get_text_config()
    except ValueError:  # several of its parts are text
        return config


def quantization_of(config: Any) -> dict[str, Any] | None:
    """Return how the weights were quantised, as the configuration of the model or of its text says; None for plain weights."""
    owners = (config, text_config(config))
    return next(
        (quantization for owner in owners if (quantization := getattr(owner, "quantization_config", None)) is not None),
        None,
    )


def max_tokens(config: Any, tokenizer: Any) -> int | None:
    """Return the length of the longest row that model and tokenizer can read; None where neither has a limit."""
    limits = [tokenizer.model_max_length] if tokenizer.model_max_length < NO_LIMIT else []
    text = text_config(config)
    positions = next((number for name in POSITIONS if (number := getattr(text, name, None))), None)
    if isinstance(positions, int) and positions > 0:
        padding = FIXED_PADDING.get(text.model_type, getattr(text, "pad_token_id", None) or 0)
        limits.append(positions - (padding + 1 if text.model_type in BEHIND_PADDING else 0))
    return min(limits, default=None)


def _digest(folder: Path, files: list[str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(
        {*files, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"}
    ):
        path = folder / name
        if path.is_file():
            digest.update(f"{name}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
