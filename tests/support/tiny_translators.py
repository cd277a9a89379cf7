"""Tiny models that translate, of several families, and sentences for them: deterministic, offline, made in a second."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.support.tiny import Row

WORDS = {
    "the cat": "die katze",
    "a dog": "ein hund",
    "our horse": "unser pferd",
    "sees": "sieht",
    "loves": "liebt",
    "follows": "verfolgt",
    "my house": "mein haus",
    "the river": "den fluss",
    "a tree": "einen baum",
}
SUBJECTS, VERBS, OBJECTS = list(WORDS)[:3], list(WORDS)[3:6], list(WORDS)[6:]
ADVERBS = {"today": "heute", "often": "oft", "": "", "at night": "nachts"}
SIZES = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}
DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
DECODES = {"is_decoder": True, "add_cross_attention": True}
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


def sentences(count: int, *, seed: int = 0) -> list[Row]:
    """Return `{"en": text, "de": text}`, translated word by word."""
    source = random.Random(seed)
    rows = []
    for _ in range(count):
        parts = [source.choice(SUBJECTS), source.choice(VERBS), source.choice(OBJECTS)]
        adverb = source.choice(list(ADVERBS))
        english = " ".join([*parts, adverb]).strip()
        rows.append({"en": english, "de": " ".join([*(WORDS[part] for part in parts), ADVERBS[adverb]]).strip()})
    return rows


def tiny_bart(folder: Path, *, positions: int = 64, seed: int = 0) -> Path:
    """Save a BART with whole words as tokens, begun as BART begins: `<s>` ... `</s>`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast, set_seed

    vocabulary = [*SPECIAL, *_vocabulary()]
    tokens = Tokenizer(models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokens.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=positions,
        model_input_names=["input_ids", "attention_mask"],
    )
    set_seed(seed)
    config = BartConfig(vocab_size=len(tokenizer), max_position_embeddings=positions, **_shape(), **DROPOUT)
    BartForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_marian(folder: Path, *, targets: tuple[str, ...] = (), seed: int = 0) -> Path:
    """Save a Marian with SentencePiece models of its own; `targets` are languages that it writes if told so in the text."""
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer, set_seed

    folder.mkdir(parents=True, exist_ok=True)
    pieces = [_pieces(folder / f"{side}.spm", texts) for side, texts in _sides().items()]
    marks = [f">>{target}<<" for target in targets]
    vocabulary = ["</s>", "<unk>", *marks, *sorted({*pieces[0], *pieces[1]} - {"</s>", "<unk>", "<s>"}), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({piece: index for index, piece in enumerate(vocabulary)}))
    files = (str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json"))
    tokenizer = MarianTokenizer(*files, source_lang="en", target_lang="de", model_max_length=64)
    set_seed(seed)
    pad = vocabulary.index("<pad>")
    ids = {"pad_token_id": pad, "eos_token_id": 0, "decoder_start_token_id": pad, "forced_eos_token_id": None}
    config = MarianConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **_shape(), **DROPOUT, **ids)
    MarianMTModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_multilingual(folder: Path, family: str, *, seed: int = 0) -> Path:
    """Save `m2m100`, `nllb`, `mbart` or `mbart50`: each puts its language codes elsewhere."""
    from transformers import (
        M2M100Config,
        M2M100ForConditionalGeneration,
        MBartConfig,
        MBartForConditionalGeneration,
        set_seed,
    )

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _multilingual_tokenizer(folder, family)
    set_seed(seed)
    plain, model = (
        (MBartConfig, MBartForConditionalGeneration)
        if family.startswith("mbart")
        else (M2M100Config, M2M100ForConditionalGeneration)
    )
    start = {"decoder_start_token_id": 2} if family == "mbart50" else {}
    size = max(tokenizer.get_vocab().values()) + 120  # M2M100 numbers them beyond its vocabulary
    config = plain(vocab_size=size, max_position_embeddings=64, **_shape(), **DROPOUT, **start)
    model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_of_kind(folder: Path, kind: str, *, seed: int = 0) -> Path:
    """Save a model of another kind that writes text, with the tokenizer of `tiny_bart`."""
    import transformers
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, BertConfig, set_seed

    tokenizer = AutoTokenizer.from_pretrained(tiny_bart(folder))
    ids = {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    size = {"vocab_size": len(tokenizer), **ids}
    like_t5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2}
    positions = {"max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 32}
    bert = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    shapes: dict[str, tuple[str, dict[str, Any]]] = {
        "pegasus": ("PegasusConfig", {**_shape(), **DROPOUT, "max_position_embeddings": 64}),
        "blenderbot": ("BlenderbotConfig", {**_shape(), **DROPOUT, "max_position_embeddings": 64}),
        "led": ("LEDConfig", {**_shape(), **DROPOUT, **positions, "attention_window": 8}),
        "nllb-moe": ("NllbMoeConfig", {**_shape(), **DROPOUT, "num_experts": 2, "max_position_embeddings": 64}),
        "longt5": ("LongT5Config", {**like_t5, "dropout_rate": 0.0}),
        "switch_transformers": ("SwitchTransformersConfig", {**like_t5, "num_experts": 2, "dropout_rate": 0.0}),
        "encoder-decoder": ("EncoderDecoderConfig", {"encoder": bert.to_dict(), "decoder": bert.to_dict() | DECODES}),
    }
    name, shape = shapes[kind]
    set_seed(seed)
    config = getattr(transformers, name)(**(shape | (ids if kind == "encoder-decoder" else size)))
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)
    return folder


def _multilingual_tokenizer(folder: Path, family: str) -> Any:
    from transformers import M2M100Tokenizer, MBart50Tokenizer, MBartTokenizer, NllbTokenizer
    from transformers.models.mbart import tokenization_mbart as mbart
    from transformers.models.mbart50 import tokenization_mbart50 as mbart50

    words = [f"▁{word}" for word in _vocabulary()]
    if family == "m2m100":
        pieces = _pieces(folder / "sentencepiece.bpe.model", [text for texts in _sides().values() for text in texts])
        vocabulary = [*SPECIAL, *(piece for piece in pieces if piece not in SPECIAL)]
        (folder / "vocab.json").write_text(json.dumps({piece: index for index, piece in enumerate(vocabulary)}))
        return M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"))
    if family == "nllb":
        letters = sorted({letter for word in words for letter in word})
        return NllbTokenizer(vocab={piece: index for index, piece in enumerate([*SPECIAL, *letters])}, merges=[])
    kind, codes = (
        (MBartTokenizer, mbart.FAIRSEQ_LANGUAGE_CODES)
        if family == "mbart"
        else (MBart50Tokenizer, mbart50.FAIRSEQ_LANGUAGE_CODES)
    )
    scored = [*((token, 0.0) for token in SPECIAL), ("▁", -8.0), *((word, -1.0) for word in words)]
    return kind(vocab=[*scored, *((code, 0.0) for code in codes), ("<mask>", 0.0)])


def _pieces(file: Path, texts: list[str]) -> list[str]:
    """Train a SentencePiece model of these texts into a file; return its pieces."""
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(file.with_suffix("")),
        vocab_size=70,
        model_type="bpe",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    made = file.with_suffix("").with_name(f"{file.with_suffix('').name}.model")
    if made != file:
        made.rename(file)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(file))
    return [processor.id_to_piece(index) for index in range(processor.get_piece_size())]


def _sides() -> dict[str, list[str]]:
    both = {**WORDS, **{word: translated for word, translated in ADVERBS.items() if word}}
    return {"source": list(both) * 5, "target": list(both.values()) * 5}


def _vocabulary() -> list[str]:
    return sorted({word for texts in _sides().values() for text in texts for word in text.split()})


def _shape() -> dict[str, int]:
    return {**SIZES, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
