"""Every kind of model that a task takes, tiny: refused in prepare for a reason that is listed here, or checked, loaded, trained a
step, judged, saved and loaded again with the same weights.

Each kind goes all the way with one of its heads, the others are checked as in prepare: all of them together take ten minutes.
`EVERY_HEAD=1 pytest tests/training/tasks/test_kinds.py` takes them, for a new release of transformers.
"""

from __future__ import annotations

import gc
import itertools
import math
import os
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoConfig

from finetune_trainer import tasks
from finetune_trainer.data.model import NO_LIMIT, max_tokens
from finetune_trainer.shared.failures import ExpectedError
from tests.support import kind_course
from tests.support.kind_course import ROWS
from tests.support.tiny_kinds import POSITIONS, byte_tokenizer, tiny_config

FREEZE_EVERY = 20
"""Models between two times that the collector is told to leave what is there alone: the Trainer calls it, and it looked at all
that transformers has imported.
"""
REFUSED: Mapping[str, Mapping[str, str]] = {
    "text-generation": {
        "an encoder with a decoder": "bart bigbird_pegasus blenderbot blenderbot-small marian mbart musicgen musicgen_melody mvp "
        "pegasus plbart prophetnet whisper",
        "reads a text in both directions": "bert big_bird camembert data2vec-text electra ernie megatron-bert rembert roberta "
        "roberta-prelayernorm roc_bert roformer xlm xlm-roberta xlm-roberta-xl xlnet",
        "no default_language": "xmod",
        "no package timm": "gemma3n",
        "what another model, which it drafts for": "gemma4_assistant gemma4_unified_assistant",
        "rows of exactly": "reformer",
    },
    "text-classification": {"picture": "layoutlmv2", "rows of exactly": "reformer", "kernels": "mra"},
    "token-classification": {"picture": "layoutlmv2", "each word stands on a page": "bros", "kernels": "mra"},
    "question-answering": {"picture": "layoutlmv2 lxmert", "rows of exactly": "reformer", "kernels": "mra"},
    "fill-mask": {"rows of exactly": "reformer", "kernels": "mra"},
    "summarization": {
        "does not write a text from a text": "audioflamingo3 glmasr granite_speech granite_speech_plus moss_transcribe_diarize "
        "musicflamingo nemo_speechlm qwen2_audio qwen3_asr vibevoice_asr voxtral voxtral_realtime",
    },
}
"""Task -> part of the message -> kinds for which transformers names a head, and that can't be trained for the task."""
PUBLISHED: Mapping[str, Any] = {
    "gemma4_assistant": {"text_config": {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}}
}
"""Kind -> what every published one has where the defaults of the kind contradict each other."""
IDLE = re.compile(
    r"pooler\.|\.indexer\.|\.compressor\.|expert_bias$|correction_bias$|embed_positions|\.encoder_attn|_global\.|entity|[we]2[we]_"
    r"|layout_|patch_embed|xpath_unitseq2|\.expert_\d+\."
)
"""Weights without a gradient: heads and parts for what no text has, weights that choose, places that are no weights, and experts
that a router of chance sends none of the few tokens to.
"""
IDLE_OF = {
    "canine": re.compile(r"\.projection\.|\.final_char_encoder\."),
    "esm": re.compile(r"contact_head"),
    "layoutlmv3": re.compile(r"layoutlmv3\.(cls_token|pos_embed|LayerNorm|norm)|rel_pos_"),
    "xlnet": re.compile(r"mask_emb|r_s_bias|seg_embed"),
}
"""Weights without a gradient in single kinds: of characters once words are made of them, of pictures, of a second part of a text."""
PADDING_IS_ZEROED = {"funnel", "youtu"}
"""Kinds of which transformers empties the row of the token for padding whenever it loads one."""
NAMED = {
    "text-generation": "codegen gemma3 gemma4 llama4 mllama qwen3_5 qwen3_5_moe rwkv",
    "text-classification": "gemma3 qwen3_5",
}
"""Task -> kinds that once were good in prepare and failed in every rank."""


def kinds(task: str) -> list[str]:
    """Return the kinds for which transformers has a head for the task."""
    return list(getattr(import_module("transformers.models.auto.modeling_auto"), tasks.find(task).heads))


def refusals(task: str) -> dict[str, str]:
    """Kind -> part of the message."""
    return {kind: why for why, refused in REFUSED[task].items() for kind in refused.split()}


REFUSED_PAIRS = [(task, kind, why) for task in ROWS for kind, why in refusals(task).items()]
TAKEN_PAIRS = [(task, kind) for task in ROWS for kind in kinds(task) if kind not in refusals(task)]


def one_head_each() -> Iterator[tuple[str, str]]:
    """Yield a pair for each kind, tasks by turns, and those that once failed."""
    takers: dict[str, list[str]] = {}
    for task, kind in TAKEN_PAIRS:
        takers.setdefault(kind, []).append(task)
    for place, (kind, its_tasks) in enumerate(sorted(takers.items())):
        yield its_tasks[place % len(its_tasks)], kind
    for task, named in NAMED.items():
        yield from ((task, kind) for kind in named.split())


ALL_THE_WAY = TAKEN_PAIRS if os.environ.get("EVERY_HEAD") else list(dict.fromkeys(one_head_each()))
CHECKED_ALONE = [pair for pair in TAKEN_PAIRS if pair not in set(ALL_THE_WAY)]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return byte_tokenizer()


@pytest.fixture(scope="module")
def frozen() -> Iterator[Iterator[int]]:
    yield itertools.count()
    gc.unfreeze()


@pytest.fixture
def _quick_collector(frozen: Iterator[int]) -> None:
    if next(frozen) % FREEZE_EVERY == 0:
        gc.collect()
        gc.freeze()


@pytest.mark.parametrize(("task", "kind", "why"), REFUSED_PAIRS)
def test_a_kind_that_cannot_be_trained_is_refused_in_prepare(
    task: str, kind: str, why: str, tokenizer: Any, tmp_path: Path
) -> None:
    assert kind in kinds(task), "it is not known to transformers any more: take it off the list"
    with pytest.raises(ExpectedError, match=re.escape(why)):
        kind_course.check(
            kind_course.job_for(task, tmp_path), AutoConfig.for_model(kind, **PUBLISHED.get(kind, {})), tokenizer
        )


def require_limit_of_embeddings(outline: Any, config: Any) -> None:
    """Require that what prepare takes for the longest row is what the model's own embeddings have places for."""
    places = kind_course.places_for_tokens(outline)
    if places is not None:
        assert max_tokens(config, SimpleNamespace(model_max_length=NO_LIMIT)) == min(places, POSITIONS)


@pytest.mark.usefixtures("_quick_collector")
@pytest.mark.parametrize(("task", "kind"), ALL_THE_WAY)
def test_a_kind_is_checked_trained_a_step_saved_and_loaded(
    task: str, kind: str, tokenizer: Any, tmp_path: Path
) -> None:
    config, job = tiny_config(kind), kind_course.job_for(task, tmp_path)
    kind_course.check(job, config, tokenizer)
    require_limit_of_embeddings(kind_course.outline(job, config), config)
    taken = kind_course.take(job, config, tokenizer)
    own = IDLE_OF.get(kind, IDLE)
    assert math.isfinite(taken.loss)
    assert taken.loss > 0
    assert taken.moved > 0
    assert [name for name in taken.idle if not IDLE.search(name) and not own.search(name)] == [], (
        "what no text passes is not trained"
    )
    assert taken.towers_moved == ()
    assert set(taken.judged) == {taken.rows}, "each row of the batch is judged"
    assert taken.lost == (() if kind not in PADDING_IS_ZEROED else taken.padding_lost)
    assert set(taken.kinds) == {config.model_type}, "it is saved as what it was"


@pytest.mark.parametrize(("task", "kind"), CHECKED_ALONE)
def test_another_head_of_a_kind_is_good_in_prepare(task: str, kind: str, tokenizer: Any, tmp_path: Path) -> None:
    config, job = tiny_config(kind), kind_course.job_for(task, tmp_path)
    kind_course.check(job, config, tokenizer)
    outline = kind_course.outline(job, config)
    assert outline.config.model_type == config.model_type
    require_limit_of_embeddings(outline, config)


def test_translation_takes_and_trains_models_as_summarization_does() -> None:
    same = ("heads", "check_model", "limits", "tokenise", "load", "collator", "loss", "reduce", "generate")
    assert tasks.find("translation").facts.model_class == tasks.find("summarization").facts.model_class
    translation, summarization = type(tasks.find("translation")), type(tasks.find("summarization"))
    assert [name for name in same if getattr(translation, name) is not getattr(summarization, name)] == []


@pytest.mark.parametrize("task", NAMED)
def test_kinds_that_failed_in_every_rank_are_taken(task: str) -> None:
    assert [kind for kind in NAMED[task].split() if (task, kind) not in TAKEN_PAIRS] == []


@pytest.mark.parametrize(
    ("task", "kind", "fields", "why"),
    [
        ("text-classification", "t5", {"decoder_start_token_id": None}, "no decoder_start_token_id"),
        ("question-answering", "t5", {"decoder_start_token_id": None}, "no decoder_start_token_id"),
        ("summarization", "t5", {"decoder_start_token_id": None}, "no decoder_start_token_id"),
        ("text-classification", "xmod", {"default_language": None}, "no default_language"),
    ],
)
def test_a_configuration_that_leaves_out_what_a_step_needs_is_refused(
    task: str, kind: str, fields: dict[str, Any], why: str, tokenizer: Any, tmp_path: Path
) -> None:
    with pytest.raises(ExpectedError, match=re.escape(why)):
        kind_course.check(kind_course.job_for(task, tmp_path), tiny_config(kind, **fields), tokenizer)
