"""A tiny model of any kind that transformers knows: its configuration shrunk field by field, with a byte tokenizer."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

POSITIONS = 96
"""Most tokens that a kind reads, where its configuration sets a limit."""
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<mask>", "<image>")
VOCABULARY = 320
WIDTH, HEADS, LAYERS, EXPERTS = 32, 2, 2, 4
TOKENS = {"pad": 0, "unk": 1, "bos": 2, "cls": 2, "decoder_start": 2, "eos": 3, "sep": 3, "mask": 4, "forced_eos": 3}
FIRST_OTHER_TOKEN = 280
"""Ids of pictures, sounds and the like, which no text holds."""

RULES: tuple[tuple[str, int], ...] = (
    (r"(src_|tgt_)?vocab_size|vocab_size_per_layer_input", VOCABULARY),
    (r"n_groups?|topk_groups?|mamba_ngroups|num_mem_blocks", 1),
    (r"q_lora_rank|kv_lora_rank|v_head_dim|o_lora_rank", 16),
    (r"qk_nope_head_dim|qk_rope_head_dim|index_head_dim|rotary_dim|d_kv|kv_channels", 8),
    (r".*head_dim", 16),
    (r"(mamba_)?chunk_size", 32),
    (r"mamba_d_state|(ssm_)?state_size", 8),
    (r".*experts_per_tok(en)?|.*top_?k|moe_k|expert_top_k", 2),
    (r".*n_shared_experts|.*num_shared_experts", 1),
    (r".*experts", EXPERTS),
    (r".*(num_heads|attention_heads|n_heads?|num_key_value_heads|key_heads|value_heads)", HEADS),
    (r".*(num_layers|hidden_layers|n_layers?|encoder_layers|decoder_layers|depth)", LAYERS),
    (r".*(intermediate_size|ffn_dim|_ff|n_inner|mlp_dim|ffn_hidden_size|inner_dim|feed_forward_size)", 2 * WIDTH),
    (r".*(hidden_size|hidden_size_global|d_model|n_embd|emb_dim|embedding_size|embed_dim|hidden_dim|dim|width)", WIDTH),
    (
        r".*(max_(encoder_|decoder_)?position_embeddings|n_positions|n_ctx|context_length|max_seq_len|max_sequence_length)",
        POSITIONS,
    ),
)
"""Pattern of a field's whole name -> its value; the first that fits."""
UNSET = re.compile(
    r"vocab_size|head_dim|num_key_value_heads|num_experts_per_tok|n_routed_experts|n_shared_experts|n_group|topk_group"
    r"|decoder_start_token_id"
)
"""Fields that are set also where the kind has no default for them."""

LINEAR, FULL = "linear_attention", "full_attention"
OWN: Mapping[str, Mapping[str, Any]] = {
    "codegen": {"n_head": 4, "rotary_dim": 4},
    "mllama_text_model": {"cross_attention_layers": [1]},
    # A layer of each sort: the published ones have the second only from the fourth layer on, or none.
    "qwen3_5_text": {"layer_types": [LINEAR, FULL]},
    "qwen3_5_moe_text": {"layer_types": [LINEAR, FULL]},
    "granitemoehybrid": {"layer_types": [LINEAR, FULL]},
    "qwen4_exp_text": {
        "layer_types": [LINEAR, "indexed_attention"],
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 32,
        "indexer_compress_ratio": 2,
    },
    "lfm2_moe": {"layer_types": ["conv", FULL], "num_dense_layers": 1},
    "zamba": {"num_hidden_layers": 4, "layers_block_type": [LINEAR, "hybrid", LINEAR, "hybrid"]},
    "zamba2": {"layers_block_type": [LINEAR, "hybrid"]},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", FULL],
        "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 4,
    },
    # Fields that every published model has, and for which the kind has no default.
    "esm": {"pad_token_id": 0, "mask_token_id": 4},
    "t5": {"decoder_start_token_id": 0},
    "longt5": {"decoder_start_token_id": 0},
    "switch_transformers": {"decoder_start_token_id": 0},
    "cohere_compass_text": {"rope_parameters": {FULL: {"rope_type": "default", "rope_theta": 10000.0}}},
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "clip_qkv": 8.0}},
    "emu3": {"vocabulary_map": {"<image>": 300, "<|extra_200|>": 301, "<|visual token 000001|>": 302}},
    "xmod": {"default_language": "en_XX"},
    # Sizes that belong together.
    "dots3_note_vision_encoder": {"mlp_layer_types": ["dense", "dense"]},
    "dots3_note_audio_encoder": {"adapter_input_size": WIDTH},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "longcat_flash": {"head_dim": 8, "zero_expert_num": 2},
    "mamba2": {"head_dim": 32},
    "mimo_v2_flash": {"num_key_value_heads": 1},
    "nemotron_h": {"mamba_head_dim": 32},
    "zaya": {"num_experts_per_tok": 1},
    "lilt": {"hidden_size": 24, "num_attention_heads": 1},
    "layoutlmv3": {"coordinate_size": 4, "shape_size": 8},
    "reformer": {
        "attn_layers": ["local", "lsh"],
        "axial_pos_embds_dim": [16, 16],
        "axial_pos_shape": [8, 12],
        "attention_head_size": 16,
        "is_decoder": True,
    },
    "canine": {"num_hash_buckets": 128, "local_transformer_stride": 32},
    "funnel": {"block_sizes": [1, 1], "d_inner": 64},
    "roc_bert": {"shape_vocab_size": 32, "pronunciation_vocab_size": 32},
    "xlnet": {"d_inner": 64},
    "led": {"attention_window": 8},
    "emu3_vqgan": {"codebook_size": 16, "base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1},
    "blt": {"encoder_hash_byte_group_vocab": 100},
    "ctrl": {"dff": 64},
    "luke": {"entity_vocab_size": 10, "entity_emb_size": 8},
    "perceiver": {"num_latents": 8, "d_latents": 32, "num_self_attends_per_block": 1},
}
"""Kind -> fields that the rules do not get right."""


def tiny_config(kind: str, **overrides: Any) -> Any:
    """Return the configuration of a model of a few thousand parameters."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return _shrunk(CONFIG_MAPPING[kind], overrides)


def _shrunk(config: Any, overrides: Mapping[str, Any], usual: Mapping[str, Any] | None = None) -> Any:
    """Return a configuration of a class; `usual` has the values that a whole sets in its part, as large as published."""
    values: dict[str, Any] = dict(usual or {})
    parts = config.sub_configs_defaults
    for field in dataclasses.fields(config):
        default = values.get(field.name, field.default)
        if field.name in parts or default is dataclasses.MISSING:
            continue
        tiny = _tiny(field.name, default)
        if tiny is not None:
            values[field.name] = tiny
    own = {**OWN.get(config.model_type, {}), **overrides}
    values.update({name: _shrunk(kind, own.pop(name, {})) for name, kind in _chosen_parts(config).items()})
    for name, part in parts.items():
        of_part = own.pop(name, {})
        if isinstance(of_part, Mapping):
            values[name] = _shrunk(type(part.default_config), of_part, part.init_kwargs)
    return config(**{**values, **own})


def _chosen_parts(config: Any) -> dict[str, Any]:
    """Return the classes of the configurations of parts that may be of any kind, by part."""
    open_parts = [name for name in config.sub_configs if name not in config.sub_configs_defaults]
    if not open_parts:
        return {}
    made = config()
    parts = {name: getattr(made, name, None) for name in open_parts}
    return {name: type(part) for name, part in parts.items() if part is not None}


def _tiny(name: str, default: Any) -> Any:
    """Return a small value in place of the default; None leaves it."""
    if isinstance(default, float) and ("drop" in name):
        return 0.0
    if default is None and UNSET.fullmatch(name):
        default = 1
    if isinstance(default, bool) or not isinstance(default, int):
        return None
    token = re.fullmatch(r"(.*)_(token_id|token_index|index)", name)
    if token:
        return TOKENS.get(token[1], FIRST_OTHER_TOKEN + sum(name.encode()) % (VOCABULARY - FIRST_OTHER_TOKEN))
    if default <= 0:
        return None
    return next((value for pattern, value in RULES if re.fullmatch(pattern, name)), None)


def tiny_whole(folder: Path, kind: str, *, dtype: str = "float32", **overrides: Any) -> Path:
    """Save a model of this kind that continues text, with all its parts, and a tokenizer in `folder`; return the folder."""
    import torch
    from transformers import AutoModelForCausalLM, set_seed

    from finetune_trainer.tasks.loading import model_class

    config = tiny_config(kind, **overrides)
    set_seed(0)
    made = model_class("AutoModelForCausalLM", config)
    model = made.from_config(config) if made is AutoModelForCausalLM else made(config)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def byte_tokenizer() -> Any:
    """Return a tokenizer with a token a byte, `<s> text </s>`; it has all special tokens and no limit of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    named = {"pad": "<pad>", "unk": "<unk>", "bos": "<s>", "cls": "<s>", "eos": "</s>", "sep": "</s>", "mask": "<mask>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in named.items()},
    )
