"""Every kind of model that text generation takes, tiny: checked, loaded, trained a step, scored, saved, loaded again."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from finetune_trainer import tasks
from finetune_trainer.config import Prepared, PrepareSummary, RunConfig
from finetune_trainer.prepare import model as prepare_model
from finetune_trainer.prepare.errors import PrepareError
from finetune_trainer.tasks.base import IGNORED_LABEL, LABELS, Reading, Training
from tests.support.runs import run_config
from tests.support.tiny_kinds import byte_tokenizer, tiny_config

TASK = "text-generation"
TEXTS = ["the quick brown fox", "hello", "abc " * 40]
WITHOUT_A_SIZE = frozenset(
    {
        *("axk1", "blt", "cohere_compass_text", "dbrx", "deepseek_v2", "dots1", "dots3_note", "emu3", "fuyu"),
        *("gemma3n", "gemma3n_text", "gemma4_assistant", "gemma4_unified_assistant", "got_ocr2", "gpt_neo"),
        *("granitemoehybrid", "hunyuan_v1_dense", "hunyuan_v1_moe", "lfm2_moe", "longcat_flash", "mamba2"),
        *("mimo_v2_flash", "ministral", "moss_transcribe_diarize", "musicgen", "musicgen_melody", "nemotron"),
        *(
            "nemotron_h",
            "phi4_multimodal",
            "prophetnet",
            "reformer",
            "zamba",
            "zamba2",
            "zaya",
        ),
    }
)
"""Kinds whose configuration `tiny_kinds` does not make small yet: nothing is said of them here."""
IDLE = re.compile(r"\.indexer\.|\.compressor\.|expert_bias$|correction_bias$|embed_positions|\.encoder_attn")
"""Weights that choose, places that are no weights, and attention of a decoder to an encoder that it was saved without."""


def kinds() -> list[str]:
    names = import_module("transformers.models.auto.modeling_auto").MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return [kind for kind in names if kind not in WITHOUT_A_SIZE]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return byte_tokenizer()


@pytest.mark.parametrize("kind", kinds())
def test_a_kind_is_trained_a_step_saved_and_loaded_or_refused(kind: str, tokenizer: Any, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from finetune_trainer.tasks.loading import model_class
    from finetune_trainer.train.rows import Collator, Rows
    from finetune_trainer.train.towers import freeze
    from finetune_trainer.train.trainer import _logits, takes_use_cache

    config, folder, task = tiny_config(kind), tmp_path / "model", tasks.find(TASK)
    made = model_class("AutoModelForCausalLM", config)
    (made.from_config(config) if made is AutoModelForCausalLM else made(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    job = run_config(tmp_path / "output", model=folder)
    job = RunConfig.model_validate({**job.model_dump(), "task": TASK})
    loaded = prepare_model.load(folder, "The model")
    try:
        task.check_model(loaded, job)
    except PrepareError:
        return
    limits, _ = task.limits(job, loaded)
    reading = Reading(job, loaded, limits, (), "train")
    batches = [made.batch for made in task.tokenise(pa.table({"text": TEXTS}), reading) if made.batch.num_rows]
    prepared = Prepared(
        config_digest="", data="/", model=str(folder), label_names=(), summary=PrepareSummary(train_rows=3)
    )

    model, its_tokenizer = task.load(folder, prepared, job, {})
    whole = set(model.state_dict())
    towers = freeze(model)
    arguments = SimpleNamespace(label_smoothing_factor=0.0, seed=1, data_seed=None)
    run = Training(job, prepared, arguments, model, its_tokenizer, half_precision=False)
    takes = set(inspect.signature(model.forward).parameters)
    rows = Rows(pa.Table.from_batches(batches)).reading(takes)
    batch = Collator(task.collator(run), keep_draw=False)(rows.__getitems__(range(len(rows))))
    labels = batch.pop(LABELS)
    outputs = model.train()(**batch, **({"use_cache": False} if takes_use_cache(model) else {}))
    assert getattr(outputs, "past_key_values", None) is None, "nobody generates"
    loss = task.loss(run)(outputs, labels, num_items_in_batch=(labels != IGNORED_LABEL).sum())
    loss.backward()

    assert torch.isfinite(loss)
    idle = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert [name for name in idle if not IDLE.search(name)] == [], "what no text passes is not trained"
    assert all(weight.grad is None for path in towers for weight in model.get_submodule(path).parameters())
    assert [len(kept) for kept in task.reduce(run)(_logits(outputs), labels)] == [len(labels)] * 3
    model.save_pretrained(tmp_path / "trained")
    again = type(model).from_pretrained(tmp_path / "trained")
    assert again.config.model_type == loaded.config.model_type, "it is saved as what it was"
    assert set(again.state_dict()) == whole
