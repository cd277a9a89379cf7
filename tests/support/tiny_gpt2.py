"""A tiny GPT-2 and texts to train it on: deterministic, offline, made in a second.

The words of a story follow each other in one fixed cycle, so that each says which one comes next: guessing costs a
perplexity of some twenty, a model that has learnt the cycle comes near one.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

CYCLE = (
    "once there lived an old king who had three sons and every evening they would sit by fire telling tales of "
    "distant lands"
)
WORDS = CYCLE.split()
END = "<|endoftext|>"
POSITIONS = 64


def story(start: int, words: int) -> str:
    """Return this many words of the cycle, from `start` on."""
    return " ".join(WORDS[(start + index) % len(WORDS)] for index in range(words))


def stories(count: int, *, seed: int = 0, lengths: tuple[int, ...] = (5, 8, 13, 21)) -> list[dict[str, Any]]:
    """Return stories of different lengths that start anywhere in the cycle: `{"text": story}`."""
    random_source = random.Random(seed)
    return [{"text": story(random_source.randrange(len(WORDS)), random_source.choice(lengths))} for _ in range(count)]


def byte_tokenizer(
    *, special: dict[str, str], template: str | None = None, size: int = 400, positions: int = POSITIONS
) -> Any:
    """Return a byte-level BPE that was trained on the words here; `template` is what is put around a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokens = sorted(set(special.values()))
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=tokens,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = [*(story(start, 2 * len(WORDS)) for start in range(len(WORDS))), *["user", "assistant", "after after"] * 9]
    tokenizer.train_from_iterator(texts, trainer)
    if template:
        ids = [(token, tokenizer.token_to_id(token)) for token in tokens]
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=positions,
        model_input_names=["input_ids", "attention_mask"],
        **special,
    )


def tiny_gpt2(folder: Path, *, dropout: float = 0.0, hidden: int = 32, layers: int = 2, seed: int = 0) -> Path:
    """Save an untrained GPT-2 with its tokenizer in `folder`, and return the folder. It has no token for padding."""
    from transformers import GPT2Config, GPT2LMHeadModel, set_seed

    tokenizer = byte_tokenizer(special={"bos_token": END, "eos_token": END, "unk_token": END})
    end = tokenizer.eos_token_id
    set_seed(seed)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=POSITIONS,
            n_embd=hidden,
            n_layer=layers,
            n_head=2,
            resid_pdrop=dropout,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
            bos_token_id=end,
            eos_token_id=end,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
