"""The rows a second that the built-in task trains on, with one rank and two, with a real model (MiniLM, 22.7 M parameters).

The product runs as in a pod: `launch`, torchrun, `train`. It is compared with `train_by_hand.py` under torchrun, once with
the same collator and length grouping, and once with `padding="max_length"`, as most tutorials have it. An epoch of
the same rows is timed, after one batch that is not; where every batch is as long as the next, some steps are enough.
One thread a rank. The lengths of the rows are skewed like those of reviews: log-normal, half of them under 40 words, one
in twenty over 150, cut at 256 tokens.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from benchmarks.common import Table, rates
from benchmarks.material import minilm, skewed_rows
from benchmarks.one_node import BATCH, Measured, train, train_by_hand
from tests.support.tiny import write_rows

RUNS = 3
ROWS = 384
MAX_LENGTH = 256
PADDED_STEPS = 8


def main(runs: int = RUNS) -> tuple[Table, ...]:
    """Run all comparisons."""
    with tempfile.TemporaryDirectory(prefix="throughput-") as name:
        folder = Path(name)
        (folder / "model").symlink_to(minilm())
        write_rows(folder / "train.csv", skewed_rows(ROWS))
        write_rows(folder / "validation.csv", skewed_rows(BATCH))
        return tuple(compare(folder, ranks, runs) for ranks in (1, 2))


def compare(folder: Path, ranks: int, runs: int) -> Table:
    """Measure the three in turn."""
    padded = by_hand(folder, ranks, "--pad-to-max-length", f"--max-steps={PADDED_STEPS}")
    same, ours = [], []
    for number in range(runs):
        same.append(by_hand(folder, ranks))
        ours.append(product(folder, ranks, number))
        print(f"{ranks} rank(s): by hand {same[-1]:.1f}, FineTuneJob {ours[-1]:.1f} samples/s", flush=True)
    figures = (
        rates('padding="max_length"', padded, median(ours), 2),
        rates(f"the same collator, median of {runs}", median(same), median(ours), 0.98),
        rates("the same collator, quickest", max(same), max(ours)),
    )
    return Table(f"samples/s, {ranks} rank{'s' * (ranks > 1)}", figures, ("torchrun by hand", "FineTuneJob"))


def product(folder: Path, ranks: int, number: int) -> float:
    """Return the samples a second of a FineTuneJob's pod."""
    limit = {"maxLength": MAX_LENGTH}
    name = f"ours-{ranks}-{number}"
    return _rate(ranks, train(folder, name, warm_up=MAX_LENGTH, processesPerNode=ranks, preprocessing=limit))


def by_hand(folder: Path, ranks: int, *options: str) -> float:
    """Return the samples a second of the script."""
    arguments = (f"--max-length={MAX_LENGTH}", "--logging-steps=10", *options)
    return _rate(ranks, train_by_hand(folder, "train_by_hand", *arguments, ranks=ranks, warm_up=MAX_LENGTH))


def _rate(ranks: int, measured: Measured) -> float:
    return measured.steps * BATCH * ranks / measured.seconds
