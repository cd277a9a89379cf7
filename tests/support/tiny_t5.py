"""A tiny T5 and stories to summarise: deterministic, offline, made in a second.

A story is noise around a thing and an opinion of it; its summary is a sentence of these two.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tests.support.tiny import Row

TOPICS = ("soup", "bread", "waiter", "music", "garden", "coffee")
VERDICTS = ("delicious", "awful", "slow", "perfect", "rude", "lovely")
NOISE = ("we", "came", "late", "and", "sat", "by", "the", "door", "then", "it", "rained", "a", "little")
SUMMARY = ("was", "said", "to", "be", "that", "day")
PREFIX = "summarize: "
SPECIAL = ("<pad>", "</s>", "<unk>")


def stories(count: int, *, seed: int = 0) -> list[Row]:
    """Return stories of very different lengths and their summaries: `{"story": text, "gist": text}`."""
    source = random.Random(seed)
    rows = []
    for _ in range(count):
        topic, verdict = source.choice(TOPICS), source.choice(VERDICTS)
        words = source.choices(NOISE, k=source.choice((3, 5, 8, 13, 21)))
        for word in (topic, verdict):
            words.insert(source.randrange(len(words) + 1), word)
        rows.append({"story": " ".join(words), "gist": f"the {topic} was said to be {verdict} that day"})
    return rows


def t5_tokenizer() -> Any:
    """Return T5's own tokenizer with the words of the stories, and letters for all other words."""
    from transformers import T5Tokenizer

    words = sorted({*TOPICS, *VERDICTS, *NOISE, *SUMMARY, PREFIX.strip()})
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = [*((token, 0.0) for token in SPECIAL), *((f"▁{word}", -1.0) for word in words), ("▁", -8.0)]
    return T5Tokenizer(vocab=[*vocabulary, *((letter, -9.0) for letter in letters)], extra_ids=0, model_max_length=64)


def tiny_t5(folder: Path, *, dropout: float = 0.0, size: int = 32, layers: int = 2, seed: int = 0) -> Path:
    """Save an untrained T5 with its tokenizer in `folder`, and return the folder."""
    from transformers import T5Config, T5ForConditionalGeneration, set_seed

    tokenizer = t5_tokenizer()
    set_seed(seed)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=size,
        d_kv=size // 2,
        d_ff=2 * size,
        num_layers=layers,
        num_heads=2,
        dropout_rate=dropout,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
