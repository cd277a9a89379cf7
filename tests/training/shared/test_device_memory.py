"""What is reckoned of a model's memory, against the models and optimizers that ranks really have: never more than these take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from finetune_operator.api.training_arguments import TrainingArguments as Accepted
from finetune_trainer.contract.prepared import PreparedTask, PrepareSummary, Resolved
from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.contract.run_config import Peft
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.shared import device_memory
from finetune_trainer.shared.device_memory import OPTIMIZER_BYTES, WEIGHT_BYTES, needed, parameters_of
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks.loading import load
from tests.support.runs import run_config
from tests.support.tiny import reviews, tiny_bert, write_rows
from tests.support.tiny_gpt2 import tiny_gpt2
from tests.support.tiny_llama import tiny_llama
from tests.support.tiny_roberta import tiny_roberta
from tests.support.tiny_t5 import tiny_t5
from tests.support.tiny_translators import tiny_bart, tiny_marian

MODELS: tuple[tuple[Callable[[Path], Path], str, str], ...] = (
    (tiny_bert, "text-classification", "AutoModelForSequenceClassification"),
    (tiny_bert, "token-classification", "AutoModelForTokenClassification"),
    (tiny_roberta, "fill-mask", "AutoModelForMaskedLM"),
    (tiny_gpt2, "text-generation", "AutoModelForCausalLM"),
    (tiny_llama, "text-generation", "AutoModelForCausalLM"),
    (tiny_llama, "text-classification", "AutoModelForSequenceClassification"),
    (tiny_t5, "summarization", "AutoModelForSeq2SeqLM"),
    (tiny_t5, "token-classification", "AutoModelForTokenClassification"),
    (tiny_bart, "translation", "AutoModelForSeq2SeqLM"),
    (tiny_marian, "translation", "AutoModelForSeq2SeqLM"),
)


@pytest.mark.parametrize(("make", "task", "head"), MODELS, ids=lambda value: getattr(value, "__name__", value))
def test_no_model_is_reckoned_larger_than_it_is(
    make: Callable[[Path], Path], task: str, head: str, tmp_path: Path
) -> None:
    folder = make(tmp_path / "model")
    model, _ = load(head, folder, "be trained", {})
    held = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    counted = parameters_of(folder, task)
    assert counted is not None
    assert 0.5 * held < counted * WEIGHT_BYTES <= held


def test_frozen_weights_take_what_is_reckoned(tmp_path: Path) -> None:
    """A method that holds frozen weights in fewer bytes has to say so in `device_memory`, or what fits is refused."""
    from finetune_trainer import tasks
    from finetune_trainer.train.adapters import Adapters

    folder = tiny_llama(tmp_path / "model")
    config = run_config(tmp_path / "output", model=folder).model_copy(
        update={"task": "text-generation", "peft": Peft(target_modules=("q_proj",))}
    )
    task = tasks.find(config.task)
    prepared = PreparedTask(
        config_digest="0",
        data="/none",
        model=str(folder),
        label_names=(),
        summary=PrepareSummary(train_rows=1),
        resolved=Resolved(),
    )
    adapters = Adapters(task, config, prepared, "bf16", 0)
    model, _ = task.load(folder, prepared, config, adapters.options())
    wrapped = adapters.wrap(model, checkpointing=False)
    held = sum(weight.numel() * weight.element_size() for weight in wrapped.parameters())
    parameters = parameters_of(folder, config.task)
    assert parameters is not None
    assert needed(config, parameters).total_bytes <= held


@pytest.mark.parametrize("optimizer", OPTIMIZER_BYTES)
def test_no_optimizer_is_reckoned_to_keep_more_than_it_does(optimizer: str, tmp_path: Path) -> None:
    import torch
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(output_dir=str(tmp_path), optim=optimizer, report_to="none", use_cpu=True)
    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
    weight = torch.nn.Parameter(torch.ones(64, 64))
    made = kind([weight], **options)
    weight.grad = torch.ones_like(weight)
    made.step()
    tensors = [value for value in made.state[weight].values() if isinstance(value, torch.Tensor)]
    kept = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    assert kept >= OPTIMIZER_BYTES[optimizer] * weight.numel()


def test_every_optimizer_that_is_accepted_is_known() -> None:
    literal: Any = Accepted.model_fields["optim"].annotation
    accepted = {name for part in get_args(literal) for name in get_args(part)}
    assert accepted == set(OPTIMIZER_BYTES)


def test_preparing_refuses_what_no_device_of_the_job_can_hold(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "train.jsonl", reviews(30))
    model = tiny_bert(tmp_path / "model")
    config = run_config(tmp_path / "output", model=model, train=data, accelerators=True)
    with pytest.raises(ExpectedError, match="does not fit: training all of its") as raised:
        prepare(config.model_copy(update={"device_memory_bytes": 1000}))
    assert (raised.value.reason, raised.value.cause) == (Reason.MODEL_TOO_LARGE, Cause.USER)
    prepared = prepare(config.model_copy(update={"device_memory_bytes": 1 << 30}))
    assert not any("memory" in message for message in prepared.messages)
    on_cpu = config.model_copy(update={"accelerators": False, "device_memory_bytes": 1000})
    assert prepare(on_cpu).summary == prepared.summary


def test_where_nobody_knows_the_device_preparing_says_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prepare says what is needed, and says it again where all is prepared."""
    monkeypatch.setattr(device_memory, "NOTE_FROM_BYTES", 1)
    data = write_rows(tmp_path / "train.jsonl", reviews(30))
    config = run_config(tmp_path / "output", model=tiny_bert(tmp_path / "model"), train=data, accelerators=True)
    for prepared in (prepare(config), prepare(config)):
        assert [
            message
            for message in prepared.messages
            if message.startswith("Each device needs more than 0.0 GiB of memory: training all")
        ]
