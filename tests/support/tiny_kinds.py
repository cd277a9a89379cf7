"""A tiny model of any kind that transformers knows: its configuration shrunk field by field, a byte tokenizer beside it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

POSITIONS = 96
"""What a kind reads at most, where its configuration says so."""
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<mask>", "<image>")
VOCABULARY = 320
WIDTH, HEADS, LAYERS, EXPERTS = 32, 2, 2, 4
TOKENS = {"pad": 0, "unk": 1, "bos": 2, "cls": 2, "decoder_start": 2, "eos": 3, "sep": 3, "mask": 4, "forced_eos": 3}
FIRST_OTHER_TOKEN = 280
"""Ids of pictures, sounds and the like, which no text holds."""

RULES: tuple[tuple[str, int], ...] = (
    (r"vocab_size|vocab_size_per_layer_input", VOCABULARY),
    (r"q_lora_rank|kv_lora_rank|v_head_dim|o_lora_rank", 16),
    (r"qk_nope_head_dim|qk_rope_head_dim|index_head_dim|rotary_dim|d_kv|kv_channels", 8),
    (r".*head_dim", 16),
    (r".*experts_per_tok(en)?|.*top_?k|moe_k|expert_top_k", 2),
    (r".*n_shared_experts|.*num_shared_experts", 1),
    (r".*experts", EXPERTS),
    (r".*(num_heads|attention_heads|n_heads?|num_key_value_heads|key_heads|value_heads)", HEADS),
    (r".*(num_layers|hidden_layers|n_layers?|encoder_layers|decoder_layers|depth)", LAYERS),
    (r".*(intermediate_size|ffn_dim|_ff|n_inner|mlp_dim|ffn_hidden_size|inner_dim)", 2 * WIDTH),
    (r".*(hidden_size|d_model|n_embd|emb_dim|embedding_size|embed_dim|hidden_dim|dim|width)", WIDTH),
    (r".*(max_position_embeddings|n_positions|n_ctx|context_length|max_seq_len|max_sequence_length)", POSITIONS),
)
"""Pattern of a field's whole name -> its value; the first that fits."""

OWN: Mapping[str, Mapping[str, Any]] = {
    "codegen": {"n_head": 4, "rotary_dim": 4},
    "mllama_text_model": {"cross_attention_layers": [1]},
    "qwen3_5_moe_text": {"layer_types": ["linear_attention", "full_attention"]},
    "qwen3_5_text": {"layer_types": ["linear_attention", "full_attention"]},
}
"""Kind -> fields that the rules do not get right."""


def tiny_config(kind: str, **given: Any) -> Any:
    """The configuration of a model of a few thousand parameters."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return _shrunk(CONFIG_MAPPING[kind], given)


def _shrunk(config: Any, given: Mapping[str, Any]) -> Any:
    values: dict[str, Any] = {}
    parts = config.sub_configs_defaults
    for field in dataclasses.fields(config):
        if field.name in parts or field.default is dataclasses.MISSING:
            continue
        tiny = _tiny(field.name, field.default)
        if tiny is not None:
            values[field.name] = tiny
    own = {**OWN.get(config.model_type, {}), **given}
    for name, part in parts.items():
        of_part = own.pop(name, {})
        if isinstance(of_part, Mapping):
            kind = type(part.default_config)
            values[name] = _shrunk(kind, {**part.init_kwargs, **of_part})
    return config(**{**values, **own})


def _tiny(name: str, default: Any) -> Any:
    """A small value in place of the default; None leaves it."""
    if isinstance(default, float) and ("drop" in name):
        return 0.0
    if isinstance(default, bool) or not isinstance(default, int):
        return None
    token = re.fullmatch(r"(.*)_(token_id|token_index|index)", name)
    if token:
        return TOKENS.get(token[1], FIRST_OTHER_TOKEN + sum(name.encode()) % (VOCABULARY - FIRST_OTHER_TOKEN))
    if default <= 0:
        return None
    return next((value for pattern, value in RULES if re.fullmatch(pattern, name)), None)


def tiny_whole(folder: Path, kind: str, *, dtype: str = "float32", **given: Any) -> Path:
    """Save a model of this kind that continues text, with all its parts, and a tokenizer in `folder`; return the folder."""
    import torch
    from transformers import AutoModelForCausalLM, set_seed

    from finetune_trainer.tasks.loading import model_class

    config = tiny_config(kind, **given)
    set_seed(0)
    made = model_class("AutoModelForCausalLM", config)
    model = made.from_config(config) if made is AutoModelForCausalLM else made(config)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def byte_tokenizer() -> Any:
    """A token a byte, `<s> text </s>`; it has all special tokens and no limit of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    named = {"pad": "<pad>", "unk": "<unk>", "bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "mask": "<mask>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in named.items()},
    )
