"""From checked rows to prepared data on the volume: tokens, examples, counts, and messages for the user.

The messages depend on the data alone, so that a job that finds the data prepared shows the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from finetune_trainer.contract.prepared import SplitReport
from finetune_trainer.contract.records import Reason
from finetune_trainer.data.model import ModelDescription
from finetune_trainer.prepare import arguments, cores, splits, store, summary, tokens, warnings
from finetune_trainer.prepare.fingerprint import seed
from finetune_trainer.prepare.hub import HubReader
from finetune_trainer.prepare.run_parts import DataSettings, RunTask
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks.task import Checked, Limits

JUDGED = ("validation", "test")
"""Splits whose rows are kept beside their tokens: metrics and predictions read the rows."""

ROOM_BYTES = 32 << 20


@dataclass(frozen=True)
class Job:
    """All that prepared data is made from."""

    settings: DataSettings
    run_task: RunTask
    hub: HubReader
    source: splits.DataSource
    model: ModelDescription
    limits: Limits


def make(job: Job, folder: Path, partial: Path, make_room: Callable[[int], object]) -> None:
    """Write the prepared data to `partial`, then rename it to `folder`. `make_room` frees so many bytes, where it can."""
    settings, run_task = job.settings, job.run_task
    with store.building(partial):
        checked = _checked(job, partial / "rows")
        messages = [*checked.messages, *checked.of_model(job.model)]
        taken = {}
        for role, table in checked.splits.items():
            _require_rows(role, table.num_rows, checked.dropped.get(role, {}))
            limit = settings.dataset.max_samples.get(role)
            order, message = splits.sampled(table.num_rows, role, limit, seed(settings.training.training_arguments))
            messages += [message] if message else []
            reading = run_task.reading(job.model, job.limits, checked.label_names, role)
            taken[role] = tokens.Taken(table, order, reading)
        arguments.check(settings.training, {role: rows.rows for role, rows in taken.items()})
        make_room(sum(_bytes(rows) for rows in taken.values()))
        made = _written(job, taken, checked, partial)
        messages += warnings.of_data(made.reports, made.overlaps, job.limits, job.model.max_tokens)
        store.seal(partial, folder, made.noted(checked, messages))


def _checked(job: Job, scratch: Path) -> Checked:
    settings, run_task = job.settings, job.run_task
    try:
        read = splits.read(
            settings.dataset,
            job.hub,
            job.source,
            run_task.asked(),
            scratch,
            seed=seed(settings.training.training_arguments),
            class_column=settings.class_column,
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # rows that are mapped into memory stay
    checked = run_task.check(read)
    of_reading = dict.fromkeys(message for split in read.values() for message in split.messages)
    return replace(checked, messages=(*of_reading, *checked.messages))


def _bytes(rows: tokens.Taken) -> int:
    """Estimate the bytes of rows as tokens: seldom more than their text takes, and the rows may be kept beside their tokens."""
    text: int = rows.table.nbytes * rows.rows // max(1, rows.table.num_rows)
    return ROOM_BYTES + 3 * text


@dataclass(frozen=True)
class _Made:
    reports: dict[str, SplitReport]
    tallies: dict[str, summary.Tally]
    overlaps: dict[str, int]
    """Split -> the number of training rows that occur in the split, too."""

    def noted(self, checked: Checked, messages: list[str]) -> dict[str, Any]:
        """Return the notes that are kept beside the data."""
        train = self.tallies["train"]
        short = summary.short(self.reports, checked.label_names, single_label=train.single_label)
        return {
            "labelNames": list(checked.label_names),
            "labelCounts": [] if train.label_counts is None else train.label_counts.tolist(),
            "summary": short.model_dump(by_alias=True, mode="json"),
            "splits": {role: report.model_dump(by_alias=True, mode="json") for role, report in self.reports.items()},
            "messages": messages,
        }


def _written(job: Job, taken: Mapping[str, tokens.Taken], checked: Checked, partial: Path) -> _Made:
    ordered = {role: taken[role] for role in (*(role for role in taken if role != splits.TRAIN), splits.TRAIN)}
    tallies = {role: summary.Tally(checked.label_names) for role in taken}
    parts = tokens.tokenised(job.run_task.task, ordered, cores.processes(job.settings.num_proc))
    overlap = tokens.Overlap()
    for role, rows in ordered.items():
        of_split = islice(parts, len(rows.ranges(role)))
        _write_split(role, rows, of_split, tallies[role], overlap, partial)
    reports = {}
    for role, rows in taken.items():
        dropped, tally = checked.dropped.get(role, {}), tallies[role]
        _require_rows(role, tally.sequences, {**dropped, **tally.dropped})
        example = summary.decoded(tally.first, job.model.tokenizer, checked.label_names, job.run_task.task.learnt)
        reports[role] = tally.report(rows.rows, dropped, example)
    return _Made(reports, tallies, {role: count for role, count in overlap.counts.items() if count})


def _write_split(
    role: str,
    rows: tokens.Taken,
    parts: Iterator[tokens.Part],
    tally: summary.Tally,
    overlap: tokens.Overlap,
    partial: Path,
) -> None:
    with store.ArrowFile(store.split_file(partial, role)) as file:
        for part in parts:
            for batch in part.batches:
                file.write(batch)
                tally.add(batch)
            overlap.add(part)
            tally.truncated += part.truncated
            tally.truncated_targets += part.truncated_targets
            tally.dropped.update(part.dropped)
    if role not in JUDGED:
        return
    with store.ArrowFile(store.examples_file(partial, role)) as file:
        for row_range in rows.ranges(role):
            for batch in rows.part(row_range).to_batches():
                file.write(batch)


def _require_rows(role: str, rows: int, dropped: Mapping[str, int]) -> None:
    if rows:
        return
    why = "; ".join(f"{count} rows: {reason}" for reason, count in dropped.items())
    raise ExpectedError(
        Reason.DATA_INVALID, f"The {role} data has no rows left to use{f' (left out: {why})' if why else ''}."
    )
