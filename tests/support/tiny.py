"""A tiny BERT and reviews to train it on: deterministic, offline, made in a second.

The tokenizer knows the words of the reviews, so that a model of a few thousand parameters learns them in a few steps.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

GOOD = ("delicious", "friendly", "wonderful", "fresh", "generous", "perfect")
BAD = ("awful", "rude", "stale", "slow", "cold", "dirty")
NEUTRAL = (
    "the",
    "food",
    "service",
    "was",
    "and",
    "place",
    "a",
    "very",
    "waiter",
    "table",
    "we",
    "had",
    "soup",
    "bread",
)
SIZES = {"tiny": (32, 2, 2, 64), "small": (64, 2, 4, 128)}
"""Size -> hidden size, layers, heads, intermediate size."""

Row = dict[str, Any]
Format = Literal["csv", "json", "jsonl", "parquet"]


def reviews(count: int, *, seed: int = 0, labels: Sequence[str | int] = ("negative", "positive")) -> list[Row]:
    """Return reviews of very different lengths, balanced over the two labels: `{"review": text, "stars": label}`."""
    random_source = random.Random(seed)
    rows = []
    for index in range(count):
        positive = index % 2
        words = random_source.choices(NEUTRAL, k=random_source.choice((3, 5, 8, 13, 21)))
        for word in random_source.choices(GOOD if positive else BAD, k=2):
            words.insert(random_source.randrange(len(words) + 1), word)
        rows.append({"review": " ".join(words), "stars": labels[positive]})
    random_source.shuffle(rows)
    return rows


def write_rows(path: Path, rows: Sequence[Row]) -> Path:
    """Write rows in the format that the suffix names; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".csv":
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, fieldnames=list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        case ".json":
            path.write_text(json.dumps(list(rows)), encoding="utf-8")
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        case ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.write_table(pa.Table.from_pylist(list(rows)), path)
        case suffix:
            raise ValueError(f"no writer for {suffix!r}")
    return path


def tiny_bert(
    folder: Path,
    *,
    dropout: float = 0.0,
    size: str = "tiny",
    dtype: str = "float32",
    architecture: Literal["bert", "distilbert"] = "bert",
    seed: int = 0,
) -> Path:
    """Save an untrained BERT (or DistilBERT) with its tokenizer in `folder`, and return the folder."""
    import torch
    from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, set_seed

    hidden, layers, heads, intermediate = SIZES[size]
    tokenizer = word_tokenizer()
    set_seed(seed)
    model: Any
    if architecture == "bert":
        model = BertModel(
            BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=hidden,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                intermediate_size=intermediate,
                max_position_embeddings=64,
                hidden_dropout_prob=dropout,
                attention_probs_dropout_prob=dropout,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    else:
        model = DistilBertModel(
            DistilBertConfig(
                vocab_size=len(tokenizer),
                dim=hidden,
                n_layers=layers,
                n_heads=heads,
                hidden_dim=intermediate,
                max_position_embeddings=64,
                dropout=dropout,
                attention_dropout=dropout,
                seq_classif_dropout=dropout,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def word_tokenizer() -> Any:
    """Make a WordPiece tokenizer with the words of the reviews, and single letters for all others."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*special, *sorted({*GOOD, *BAD, *NEUTRAL, *letters}), *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(models.WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", special.index("[CLS]")), ("[SEP]", special.index("[SEP]"))],
    )
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{token[1:-1].lower()}_token": token for token in special},
    )
