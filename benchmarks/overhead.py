"""The cost of metrics and progress for a training step of 50 ms.

A real `launch` runs one rank, `overhead_rank`. The baseline is the same Trainer in the same process without reports;
the two take turns.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.common import Figure, Table
from benchmarks.one_node import run_config, run_launch
from tests.support.tiny import BAD, GOOD, NEUTRAL, tiny_bert, write_rows

ROUNDS = 6
STEPS = 100
ROWS = 400
BATCH = 4


def main(rounds: int = ROUNDS) -> tuple[Table, ...]:
    """Run the benchmark."""
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        measured = run(Path(folder), rounds)
    silent = [record for record in measured if not record["reporting"]]
    ours = [record for record in measured if record["reporting"]]
    step = median(seconds for record in silent for seconds in record["step_seconds"])

    def figure(name: str, before: float, after: float, target: float | None) -> Figure:
        share = (after - before) / step * 100
        return Figure(name, f"{before * 1e3:.3f} ms", f"{after * 1e3:.3f} ms", share, target, "% of a step")

    def average(rounds: list[dict[str, Any]], name: str) -> float:
        return float(mean(record[name] for record in rounds))

    with_reports = median(seconds for record in ours for seconds in record["step_seconds"])
    table = Table(
        f"metrics and progress at steps of 50 ms ({len(ours)} x {STEPS} steps)",
        (
            figure("time of a step, median", step, with_reports, 0.5),
            figure("in the callbacks, CPU of the training thread", 0, average(ours, "callback_cpu_seconds"), None),
            figure("CPU of the rank, all threads", average(silent, "cpu_seconds"), average(ours, "cpu_seconds"), None),
            figure("CPU of launch", 0, average(ours, "launch_cpu_seconds"), None),
        ),
        ("without", "with"),
    )
    return (table,)


def run(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Run one launch to its end; return what its rank measured."""
    make_data(folder)
    arguments = {"max_steps": STEPS, "per_device_train_batch_size": BATCH, "logging_steps": 10}
    config = run_config(folder, trainingArguments=arguments)
    measured: list[dict[str, Any]] = run_launch(folder, config, ("benchmarks.overhead_rank",), ROUNDS=str(rounds))
    return measured


def make_data(folder: Path) -> None:
    """Make a model, and rows of one length, so that any order of them costs the same."""
    tiny_bert(folder / "model")
    texts = (" ".join((*NEUTRAL, (BAD, GOOD)[row % 2][row % 6])) for row in range(ROWS))
    write_rows(folder / "train.csv", [{"review": text, "stars": row % 2} for row, text in enumerate(texts)])
