"""The way of a model through a run, in one process and small: checked as prepare does, loaded as a rank does, trained a step by
the Trainer of a rank, judged, saved, loaded again.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from transformers import AutoConfig, TrainingArguments

from finetune_trainer import tasks
from finetune_trainer.contract.prepared import PreparedTask, PrepareSummary
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.data import model as prepare_model
from finetune_trainer.data.prepared_dataset import Collator, PreparedDataset
from finetune_trainer.data.sampler import GlobalBatchOrder, MicroBatchSampler
from finetune_trainer.prepare import image
from finetune_trainer.tasks.loading import model_class
from finetune_trainer.tasks.task import Reading, Training
from finetune_trainer.train import balance, towers
from finetune_trainer.train.pulse import Pulse
from finetune_trainer.train.trainer import RankTrainer, takes_use_cache
from finetune_trainer.train.volume_trouble import Save
from tests.support.runs import run_config
from tests.support.tiny_kinds import POSITIONS

TEXTS = ["the quick brown fox", "hello", "abcd " * POSITIONS]
"""Texts of a batch; the last is longer than a tiny model reads, so it is cut."""
TAGS = pa.array([[0] * len(text.split()) for text in TEXTS], pa.list_(pa.int32()))
ANSWERS = [{"text": [text[:4]], "answer_start": [0]} for text in TEXTS]
ROWS: Mapping[str, Mapping[str, Any]] = {
    "text-generation": {"text": TEXTS},
    "fill-mask": {"text": TEXTS},
    "text-classification": {"text": TEXTS, "label": pa.array([0, 1, 2], pa.int32())},
    "token-classification": {"words": [text.split() for text in TEXTS], "tags": TAGS},
    "question-answering": {"question": ["who?"] * len(TEXTS), "context": TEXTS, "answers": ANSWERS},
    "summarization": {"text": TEXTS, "summary": ["a", "bb", TEXTS[-1]]},
}
"""Task -> rows as its check gives them."""
OF_POSITIONS = re.compile(
    r"(^|\.)((embeddings|encoder|decoder)\.)?(position_embeddings|embed_positions|positions_embed|wpe)$"
)
OF_OTHERS = re.compile(r"vision|visual|image|audio|entity|layout|preprocessor")
"""Names of embeddings of positions in pictures, sounds and the like."""
LABELS = {"text-classification": ("bad", "good", "so so"), "token-classification": ("O", "B-PER", "I-PER")}


@dataclass(frozen=True)
class Taken:
    """The outcome of a model's run."""

    loss: float
    idle: tuple[str, ...]
    """Trainable weights that got no gradient."""
    moved: int
    """Number of weights that the step has changed."""
    towers_moved: tuple[str, ...]
    judged: tuple[int, ...]
    """Number of rows of each input of the metrics."""
    rows: int
    """Number of rows of the batch."""
    lost: tuple[str, ...]
    """Weights that differ, or are missing, once the saved model is loaded."""
    padding_lost: tuple[str, ...]
    """Weights that differ only in the row of the padding token."""
    kinds: tuple[str, ...]
    """Kind of the model as it was made, as it was trained, and as it was loaded again."""


def job_for(task: str, folder: Path) -> TaskConfig:
    """Return a run of a task on the model in `folder`/model."""
    config = run_config(folder / "output", model=folder / "model")
    return TaskConfig.model_validate({**config.model_dump(), "task": task})


def check(job: TaskConfig, config: Any, tokenizer: Any) -> None:
    """Raise ExpectedError where prepare does; it needs no weights for that."""
    folder = Path(job.model.name)
    config.save_pretrained(folder)
    image.check_model(job.model.name, folder, accelerators=job.accelerators)
    read = AutoConfig.from_pretrained(folder)
    limit = prepare_model.max_tokens(read, tokenizer)
    tasks.find(job.task).check_model(
        prepare_model.ModelDescription(folder, "The model", read, tokenizer, limit, ""), job
    )


def outline(job: TaskConfig, config: Any) -> Any:
    """Return the model with the head of the task, without weights."""
    chosen = model_class(tasks.find(job.task).facts.model_class, config)
    with torch.device("meta"):
        return chosen.from_config(config) if hasattr(chosen, "from_config") else chosen(config)


def places_for_tokens(model: Any) -> int | None:
    """Return the number of positions that a model has embeddings for; None for a model without them."""
    places = [
        embedding.num_embeddings - (0 if embedding.padding_idx is None else embedding.padding_idx + 1)
        for name, embedding in model.named_modules()
        if isinstance(embedding, torch.nn.Embedding) and OF_POSITIONS.search(name) and not OF_OTHERS.search(name)
    ]
    return min(places, default=None)


def take(job: TaskConfig, config: Any, tokenizer: Any) -> Taken:
    """Make the model with the head of the task, and take it through a run."""
    folder, task = Path(job.model.name), tasks.find(job.task)
    chosen = model_class(task.facts.model_class, config)
    made = chosen.from_config(config) if hasattr(chosen, "from_config") else chosen(config)
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    rows, prepared = _prepared(job)
    model, its_tokenizer = task.load(folder, prepared, job, {})
    frozen = towers.freeze(model)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    run = Training(job, prepared, _arguments(folder), model, its_tokenizer, half_precision=False)
    trainer = _trainer(run, rows)
    loss = trainer.train().training_loss
    assert trainer.optimizer is not None
    learnt = {id(weight) for weight in trainer.optimizer.state}
    weights = dict(model.named_parameters())
    moved = {name for name, weight in weights.items() if not torch.equal(before[name], weight)}
    _, judged, _ = trainer.prediction_step(model.eval(), dict(next(iter(trainer.get_train_dataloader()))), False)
    model.save_pretrained(folder.parent / "trained")
    again = type(model).from_pretrained(folder.parent / "trained", dtype=torch.float32)
    return Taken(
        loss=loss,
        idle=tuple(name for name, weight in weights.items() if weight.requires_grad and id(weight) not in learnt),
        moved=len(moved),
        towers_moved=tuple(name for name in moved if name.startswith(frozen or "-")),
        judged=tuple(len(part) for part in (judged if isinstance(judged, tuple) else (judged,))),
        rows=len(rows),
        lost=_different(model.state_dict(), again.state_dict()),
        padding_lost=_different_in_row(its_tokenizer.pad_token_id, model.state_dict(), again.state_dict()),
        kinds=tuple(each.config.model_type for each in (made, model, again)),
    )


def _prepared(job: TaskConfig) -> tuple[PreparedDataset, PreparedTask]:
    """Return rows of tokens as prepare makes them of the task's rows, each as long as the model can read at most."""
    task, folder = tasks.find(job.task), Path(job.model.name)
    loaded = prepare_model.load(folder, "The model")
    limits, _ = task.limits(job, loaded)
    labels = LABELS.get(job.task, ())
    reading = Reading(job, loaded, limits, labels, "train")
    batches = [made.batch for made in task.tokenise(pa.table(dict(ROWS[job.task])), reading) if made.batch.num_rows]
    summary = PrepareSummary(train_rows=len(TEXTS))
    prepared = PreparedTask(config_digest="", data="/", model=str(folder), label_names=labels, summary=summary)
    return PreparedDataset(pa.Table.from_batches(batches)), prepared


def _arguments(folder: Path) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        max_steps=1,
        learning_rate=1e-2,
        per_device_train_batch_size=16,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        label_names=["labels"],
        remove_unused_columns=False,
    )


def _trainer(run: Training, rows: PreparedDataset) -> RankTrainer:
    """Build the trainer as `recipe` does."""
    task, model = tasks.find(run.config.task), run.model
    model.accepts_loss_kwargs = False
    takes = {*inspect.signature(model.forward).parameters, *task.collates}
    return RankTrainer(
        batches=MicroBatchSampler(
            GlobalBatchOrder(rows.lengths, len(rows), seed=1), batch_size=len(rows), world_size=1
        ),
        pulse=Pulse(1, 0, None, save_seconds=None),
        save=Save(),
        note={},
        reduce=task.reduce(run),
        reads_labels=task.reads_labels,
        no_cache=takes_use_cache(model),
        balance=balance.weight(model),
        model=model,
        args=run.arguments,
        train_dataset=rows.reading(takes),
        data_collator=Collator(task.collator(run), keep_draw=task.draws),
        processing_class=run.tokenizer,
        compute_loss_func=task.loss(run),
    )


def _different(trained: Mapping[str, Any], loaded: Mapping[str, Any]) -> tuple[str, ...]:
    missing = set(trained) ^ set(loaded)
    return tuple(
        sorted(missing | {name for name in set(trained) - missing if not torch.equal(trained[name], loaded[name])})
    )


def _different_in_row(row: int, trained: Mapping[str, Any], loaded: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the weights that differ in one row alone."""
    names = [name for name in _different(trained, loaded) if name in trained and name in loaded]
    differing = {
        name: (trained[name] != loaded[name]).flatten(1).any(dim=1).nonzero().flatten().tolist() for name in names
    }
    return tuple(name for name, rows in differing.items() if rows == [row])
