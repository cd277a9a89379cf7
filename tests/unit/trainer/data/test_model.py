"""What a model is, as transformers answers it: tokenizers without files, the text part of a whole, positions that embeddings keep."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from finetune_trainer.contract.records import Reason
from finetune_trainer.data import model
from finetune_trainer.shared.failures import ExpectedError

NO_LIMIT = int(1e30)
"""Limit that a tokenizer without one of its own gives."""


def saved(folder: Path, config: Any, tokenizer: Any = None) -> Path:
    """Save a model in a folder and return it. Its weights are none that anybody loads here."""
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    save_file({"weight": np.zeros(1, np.float32)}, folder / "model.safetensors")
    return folder


def of(kind: str, **fields: Any) -> Any:
    """Make a configuration of a kind."""
    return import_module("transformers").AutoConfig.for_model(kind, **fields)


class Endless:
    """A tokenizer without a limit, with all of it that the length of a row depends on."""

    model_max_length = NO_LIMIT


@pytest.mark.parametrize(
    ("kind", "tokenizer", "text", "ids"),
    [
        ("t5", "ByT5Tokenizer", "h\u00e9", [107, 198, 172, 1]),
        ("canine", "CanineTokenizer", "h\u00e9", [0xE000, 104, 233, 0xE001]),
    ],
    ids=["byt5", "canine"],
)
def test_a_tokenizer_of_bytes_or_characters_has_no_files(
    kind: str, tokenizer: str, text: str, ids: list[int], tmp_path: Path
) -> None:
    config = of(kind, tokenizer_class=tokenizer, n_positions=512)
    folder = saved(tmp_path / "model", config, getattr(import_module("transformers"), tokenizer)(model_max_length=256))
    assert {path.name for path in folder.iterdir()} - {"added_tokens.json"} == {
        "config.json",
        "model.safetensors",
        "tokenizer_config.json",
    }, "as on the Hub"
    loaded = model.load(folder, "The model")
    assert type(loaded.tokenizer).__name__ == tokenizer
    assert loaded.tokenizer(text)["input_ids"] == ids
    assert loaded.max_tokens == 256


def test_a_tokenizer_that_needs_files_is_missed(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", of("bert"))
    with pytest.raises(ExpectedError, match="has no tokenizer") as caught:
        model.load(folder, "The model")
    assert caught.value.reason is Reason.MODEL_NOT_FOUND


@pytest.mark.parametrize("kind", ["gemma3", "llama4", "mllama", "qwen3_5", "gemma4"])
def test_positions_of_a_whole_model_are_those_of_its_text(kind: str) -> None:
    assert model.max_tokens(of(kind, text_config={"max_position_embeddings": 96}), Endless()) == 96


@pytest.mark.parametrize(
    ("kind", "positions", "padding", "reads"),
    [
        # Numbered from behind the padding index on.
        ("roberta", 514, 1, 512),
        ("roberta", 514, 0, 513),
        ("xlm-roberta", 514, 1, 512),
        ("camembert", 514, 1, 512),
        ("longformer", 4098, 1, 4096),
        ("mpnet", 514, 1, 512),
        ("mpnet", 514, 0, 512),
        ("esm", 1026, 1, 1024),
        ("prophetnet", 512, 0, 511),
        ("data2vec-text", 514, 1, 512),
        ("lilt", 514, 1, 512),
        # Two more places than the configuration says are made for the offset.
        ("opt", 2048, 1, 2048),
        ("bart", 1024, 1, 1024),
        ("mbart", 1024, 1, 1024),
        # No offset at all.
        ("bert", 512, 0, 512),
        ("deberta-v2", 512, 0, 512),
    ],
)
def test_places_that_an_embedding_keeps_for_itself_are_no_tokens(
    kind: str, positions: int, padding: int, reads: int
) -> None:
    config = of(kind, max_position_embeddings=positions, pad_token_id=padding)
    assert model.max_tokens(config, Endless()) == reads
