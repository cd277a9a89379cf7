"""Summarisation and language modelling: documents a second of training, beside scripts in the shape of the public ones.

The product runs as in a pod: `launch`, torchrun, `train`; the script (`tasks_by_hand.py`) under torchrun, once padding to
max_length and once with its best collator: length grouping, or texts joined into full rows. Same model (a T5 and a GPT-2 of
a few million parameters with MiniLM's vocabulary), same documents, same batch; one rank, one thread. All steps of an
epoch but the first are timed; where every batch is as long as the next, some steps are enough. Documents: log-normal lengths.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from benchmarks.common import Figure, Table, rates
from benchmarks.material import skewed_rows, small_model
from benchmarks.one_node import BATCH, Measured, train, train_by_hand
from tests.support.tiny import write_rows

RUNS = 3
DOCUMENTS = 960
"""Documents of a run: so many that the last tokens, which fill no row, weigh little: ours trains them, the script drops them."""
MAX_LENGTH = 256
TARGET_LENGTH = 32
PADDED_STEPS = 8
SUMMARY_WORDS = 8


def main(runs: int = RUNS) -> tuple[Table, ...]:
    """Run both tasks."""
    with tempfile.TemporaryDirectory(prefix="tasks-") as name:
        return tuple(compare(Path(name) / task, task, runs) for task in ("summarization", "text-generation"))


def compare(folder: Path, task: str, runs: int) -> Table:
    """Measure the padded script, the best script and ours in turn."""
    make(folder, task)
    padded = by_hand(folder, task, "--pad-to-max-length", f"--max-steps={PADDED_STEPS}")
    best, ours = [], []
    for number in range(runs):
        best.append(by_hand(folder, task))
        ours.append(product(folder, task, number))
        print(f"{task}: by hand {best[-1]}, FineTuneJob {ours[-1]}", flush=True)
    script_rates, our_rates = (
        [_rate(measured, DOCUMENTS / measured.steps) for measured in kind] for kind in (best, ours)
    )
    before, now = (median(measured.loss for measured in kind if measured.loss is not None) for kind in (best, ours))
    rows = (
        rates('padding="max_length"', _rate(padded, BATCH), median(our_rates), 2.5),
        rates(f"its best collator, median of {runs}", median(script_rates), median(our_rates), 1.0),
        rates("its best collator, quickest", max(script_rates), max(our_rates)),
        Figure("training loss at the end of the epoch", f"{before:.3f}", f"{now:.3f}", now / before),
    )
    return Table(f"documents/s, {task}, 1 rank", rows, ("script by hand", "FineTuneJob"))


def _rate(measured: Measured, documents: float) -> float:
    """Return the documents a second, with so many a step: an epoch has all documents, however many of them share a row."""
    return (measured.steps - 1) * documents / measured.later_seconds


def make(folder: Path, task: str) -> None:
    """Make model and data."""
    small_model(folder / "model", task)
    texts = [row["review"] for row in skewed_rows(DOCUMENTS)]
    rows = [{"text": text, "summary": " ".join(text.split()[:SUMMARY_WORDS])} for text in texts]
    write_rows(folder / "train.jsonl", rows)


def product(folder: Path, task: str, number: int) -> Measured:
    """Train in a FineTuneJob's pod."""
    limits = {"summarization": {"maxSourceLength": MAX_LENGTH, "maxTargetLength": TARGET_LENGTH}}
    columns = {"summarization": {"text": "text", "summary": "summary"}}
    return train(
        folder,
        f"ours-{number}",
        task=task,
        dataset={"files": {"train": [str(folder / "train.jsonl")]}, "columns": columns.get(task, {"text": "text"})},
        preprocessing=limits.get(task, {"maxLength": MAX_LENGTH, "packing": True}),
    )


def by_hand(folder: Path, task: str, *options: str) -> Measured:
    """Train by the script."""
    return train_by_hand(folder, "tasks_by_hand", f"--task={task}", f"--max-length={MAX_LENGTH}", *options)
