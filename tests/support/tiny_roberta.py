"""A tiny RoBERTa, whose tokenizer reads bytes and keeps the space before a word: offline, made in a second."""

from __future__ import annotations

from pathlib import Path

from tests.support.tiny import BAD, GOOD, NEUTRAL

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def tiny_roberta(folder: Path, *, dropout: float = 0.0, seed: int = 0) -> Path:
    """Save an untrained RoBERTa with its tokenizer in `folder`, and return the folder."""
    import json

    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer, set_seed

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator([" ".join((*GOOD, *BAD, *NEUTRAL))] * 9, trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    tokenizer = RobertaTokenizer(vocab=model["vocab"], merges=merges, model_max_length=64)
    set_seed(seed)
    RobertaModel(
        RobertaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=66,
            type_vocab_size=1,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
