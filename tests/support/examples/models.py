"""Untrained models of a few thousand parameters under the names of the models that the examples fine-tune."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.tiny import word_tokenizer
from tests.support.tiny_gpt2 import byte_tokenizer
from tests.support.tiny_llama import tiny_llama

POSITIONS = 512
SIZE = 32
END, PAD, START, UNKNOWN = "</s>", "<pad>", "<s>", "<unk>"


def _words() -> Any:
    tokenizer = word_tokenizer()
    tokenizer.model_max_length = POSITIONS
    return tokenizer


def _bytes(template: str) -> Any:
    special = {"bos_token": START, "eos_token": END, "pad_token": PAD, "unk_token": UNKNOWN}
    return byte_tokenizer(special=special, template=template, positions=POSITIONS)


def bert(folder: Path) -> None:
    from transformers import BertConfig, BertModel

    tokenizer = _words()
    sizes = {"hidden_size": SIZE, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 2 * SIZE}
    config = BertConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=POSITIONS,
        pad_token_id=tokenizer.pad_token_id,
        **sizes,
    )
    _save(BertModel(config), tokenizer, folder)


def distilbert(folder: Path) -> None:
    from transformers import DistilBertConfig, DistilBertForMaskedLM

    tokenizer = _words()
    sizes = {"dim": SIZE, "n_layers": 2, "n_heads": 2, "hidden_dim": 2 * SIZE}
    tokens = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    config = DistilBertConfig(max_position_embeddings=POSITIONS, **sizes, **tokens)
    _save(DistilBertForMaskedLM(config), tokenizer, folder)


def t5(folder: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = _bytes(f"$A {END}")
    sizes = {"d_model": SIZE, "d_kv": SIZE // 2, "d_ff": 2 * SIZE, "num_layers": 2, "num_heads": 2}
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    config = T5Config(
        vocab_size=len(tokenizer), pad_token_id=pad, eos_token_id=end, decoder_start_token_id=pad, **sizes
    )
    _save(T5ForConditionalGeneration(config), tokenizer, folder)


def bart(folder: Path) -> None:
    from transformers import BartConfig, BartForConditionalGeneration

    tokenizer = _bytes(f"{START} $A {END}")
    layers = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=SIZE,
        encoder_ffn_dim=2 * SIZE,
        decoder_ffn_dim=2 * SIZE,
        max_position_embeddings=POSITIONS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
        **layers,
    )
    _save(BartForConditionalGeneration(config), tokenizer, folder)


def gpt2(folder: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    end = "<|endoftext|>"
    tokenizer = byte_tokenizer(special=dict.fromkeys(("bos_token", "eos_token", "unk_token"), end), positions=POSITIONS)
    sizes = {"n_positions": POSITIONS, "n_embd": SIZE, "n_layer": 2, "n_head": 2}
    tokens = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    _save(GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **sizes, **tokens)), tokenizer, folder)


def llama(folder: Path) -> None:
    tiny_llama(folder, positions=POSITIONS)


MODELS: dict[str, Callable[[Path], None]] = {
    "google-bert/bert-base-cased": bert,
    "distilbert/distilbert-base-cased": distilbert,
    "distilbert/distilbert-base-uncased": distilbert,
    "google-t5/t5-small": t5,
    "facebook/bart-base": bart,
    "distilbert/distilgpt2": gpt2,
    "HuggingFaceTB/SmolLM2-360M-Instruct": llama,
}


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
