"""Preparing as one function: from a run config to `Prepared`, on the volume.

Four steps: the model, the data's identity, rows that are checked, tokens on disk. What is there already is used again.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from finetune_trainer import tasks
from finetune_trainer.config import Prepared, PrepareSummary, Resolved, RunConfig
from finetune_trainer.paths import to_pod
from finetune_trainer.prepare import arguments, model, preflight, splits, store
from finetune_trainer.prepare.hub import Hub
from finetune_trainer.prepare.key import config_digest, data_key
from finetune_trainer.prepare.model import Model
from finetune_trainer.tasks.base import Checked, Limits, Reading, Task
from finetune_trainer.volume import Layout, make_folder, probe, read_document, write_document

PART_ROWS = 10_000


def prepare(config: RunConfig) -> Prepared:
    """Prepare a run, or find it prepared. Raises PrepareError and VolumeError."""
    layout = Layout.of(config)
    probe(layout)
    told = preflight.check(config)
    earlier = read_document(layout.run.prepared, Prepared)
    if earlier and earlier.config_digest == config_digest(config) and _is_there(earlier):
        return _also_told(earlier, told)
    hub = Hub(config)
    loaded, model_commit = _model(config, hub, layout)
    task = tasks.find(config.task)
    task.check_model(loaded, config)
    found = splits.find(config, hub)
    limits, said = task.limits(config, loaded)
    key = data_key(
        config, data=found.identity, tokenizer=loaded.tokenizer_digest, limits=(limits.tokens, limits.target_tokens)
    )
    folder = layout.prepared(key)
    meta = store.read_meta(folder)
    if meta is None:
        meta = _make(config, hub, found, loaded, limits, folder)
    summary = PrepareSummary.model_validate(meta["summary"])
    rows = {"train": summary.train_rows}
    if summary.validation_rows is not None:
        rows["validation"] = summary.validation_rows
    prepared = Prepared(
        config_digest=config_digest(config),
        data=to_pod(folder),
        model=to_pod(loaded.folder),
        label_names=tuple(meta["labelNames"]),
        summary=summary,
        resolved=Resolved(model_revision=model_commit, dataset_revision=found.commit),
        messages=(
            *said,
            *task.model_messages(loaded, tuple(meta["labelNames"])),
            *meta["messages"],
            *arguments.check(config, rows),
        ),
    )
    make_folder(layout.run.folder)
    write_document(layout.run.prepared, prepared)
    return _also_told(prepared, told)


def _also_told(prepared: Prepared, messages: tuple[str, ...]) -> Prepared:
    """With what concerns this try alone: it is not kept on the volume."""
    return prepared.model_copy(update={"messages": (*messages, *prepared.messages)})


def _is_there(prepared: Prepared) -> bool:
    from finetune_trainer.paths import to_local

    return store.read_meta(to_local(prepared.data)) is not None and to_local(prepared.model).is_dir()


def _model(config: RunConfig, hub: Hub, layout: Layout) -> tuple[Model, str | None]:
    if config.model.name.startswith("/"):
        return model.load(model.local_model(config.model.name), f"The model {config.model.name}"), None
    folder, commit = hub.model(config.model, layout.hub_cache)
    return model.load(folder, f"The model {config.model.name}"), commit


@dataclass
class _Tokens:
    """Batches of a split on their way to the disk, and how many rows were cut."""

    task: Task
    table: pa.Table
    order: splits.Indices | None
    """Rows to take; None for all."""
    reading: Reading
    truncated: int = field(default=0, init=False)

    @property
    def count(self) -> int:
        return self.table.num_rows if self.order is None else len(self.order)

    @property
    def labels(self) -> pa.ChunkedArray:
        labels = self.table.select(["label"])
        return (labels if self.order is None else splits.take(labels, self.order)).column("label")

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for rows in self._parts():
            for part in self.task.tokenise(rows, self.reading):
                self.truncated += part.truncated
                yield part.batch

    def _parts(self) -> Iterator[pa.Table]:
        """A sample is taken a part at a time, or it would be in memory as a whole."""
        if self.order is None:
            yield self.table
            return
        for start in range(0, len(self.order), PART_ROWS):
            yield splits.take(self.table, self.order[start : start + PART_ROWS])


def _make(
    config: RunConfig, hub: Hub, found: splits.Found, loaded: Model, limits: Limits, folder: Path
) -> dict[str, Any]:
    task = tasks.find(config.task)
    scratch = folder.with_name(f"{folder.name}{store.PARTIAL}rows-{os.getpid()}")
    try:
        read = splits.read(config, hub, found, task.columns(config), task.text_columns(config), scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # rows that are mapped into memory stay
    checked = task.check(read, config)
    messages = list(checked.messages)
    tokens = {}
    for role, table in checked.splits.items():
        order, said = splits.sampled(table.num_rows, role, config)
        messages += [said] if said else []
        reading = Reading(config, loaded, limits, checked.label_names, role)
        tokens[role] = _Tokens(task, table, order, reading)
    rows = {role: part.count for role, part in tokens.items()}
    arguments.check(config, rows)
    meta: dict[str, Any] = {
        "labelNames": list(checked.label_names),
        "summary": _summary(checked, tokens).model_dump(by_alias=True, mode="json"),
        "maxTokens": limits.tokens,
    }
    store.write(folder, tokens, lambda: {**meta, "messages": [*messages, *_cut(tokens, limits.tokens)]})
    return store.read_meta(folder) or {}


def _cut(tokens: dict[str, _Tokens], max_tokens: int | None) -> list[str]:
    return [
        f"{part.truncated} of {part.count} {role} rows are longer than {max_tokens} tokens and are cut."
        for role, part in tokens.items()
        if part.truncated
    ]


def _summary(checked: Checked, tokens: dict[str, _Tokens]) -> PrepareSummary:
    judged = tokens.get("validation", tokens["train"])
    counts = Counter({item["values"]: item["counts"] for item in pc.value_counts(judged.labels).to_pylist()})
    return PrepareSummary(
        train_rows=tokens["train"].count,
        validation_rows=tokens["validation"].count if "validation" in tokens else None,
        labels=checked.label_names,
        majority_share=counts.most_common(1)[0][1] / judged.count,
    )
