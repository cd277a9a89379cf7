"""The cost of preparing: tokenising beside scripts in the shape of the public ones, finding data prepared already, and memory.

Both sides run in processes of their own, in turn, on all cores (`make bench` on two), from the same jsonl to Arrow files
on the same disk; the part that both do is timed, from rows to tokens on disk. Models are MiniLM's tokenizer with small weights.
Data is generated: texts of log-normal lengths.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from subprocess import DEVNULL, PIPE, Popen

import psutil

from benchmarks.common import Figure, Table
from benchmarks.material import minilm, skewed_rows, small_model
from benchmarks.one_node import run, run_config
from finetune_trainer.contract.run_config import Env, TaskConfig
from tests.support.cluster.client import REPOSITORY
from tests.support.tiny import write_rows

RUNS = 3
ROWS = {"text-classification": 40_000, "summarization": 20_000, "text-generation": 30_000}
SIZES = (10_000, 100_000, 1_000_000)
SHORT_WORDS = 8
SAMPLE_SECONDS = 0.1
MIB = float(1 << 20)


@dataclass(frozen=True)
class Measured:
    """The time of tokenising, from rows to tokens on disk."""

    seconds: float
    cpu: float
    rows: float = 0


def main(runs: int = RUNS) -> tuple[Table, ...]:
    """Run all measurements."""
    with tempfile.TemporaryDirectory(prefix="prepare-") as name:
        folder = Path(name)
        return speed(folder, runs), memory(folder)


# --- time ------------------------------------------------------------------------------------------------------------


def speed(folder: Path, runs: int) -> Table:
    """Measure each task, and then data that is prepared already."""
    figures: list[Figure] = []
    for task, rows in ROWS.items():
        task_folder = folder / task
        make(task_folder, task, rows)
        script, ours = [], []
        for number in range(runs):
            script.append(by_hand(task_folder, task, number))
            ours.append(Measured(**product(task_folder, config(task_folder, task, number))[0]))
            print(f"{task}: by hand {script[-1]}, FineTuneJob {ours[-1]}", flush=True)
        for what, field, target in ((f"{task}, {rows:,} rows", "seconds", 1.8), ("of which CPU time", "cpu", None)):
            before, now = (median(getattr(measured, field) for measured in side) for side in (script, ours))
            figures.append(Figure(what, f"{before:.2f} s", f"{now:.2f} s", before / now, target, at_least=True))
    task_folder = folder / "text-classification"
    again = [by_hand_again(task_folder) for _ in range(runs)]
    for what, uid in (("the same job", "run-0"), ("another job of the claim", "another")):
        reused = [product(task_folder, config(task_folder, "text-classification", 0, uid=uid))[1] for _ in range(runs)]
        figures.append(
            Figure(
                f"prepared already, {what}: the whole process",
                f"{median(again):.2f} s",
                f"{median(reused):.2f} s",
                median(reused),
                1.0,
                "s",
            )
        )
    return Table(f"preparing, {os.cpu_count()} cores", tuple(figures), ("script by hand", "FineTuneJob"))


def make(folder: Path, task: str, rows: int) -> None:
    """Make model and data."""
    if task == "text-classification":
        folder.mkdir()
        (folder / "model").symlink_to(minilm())
    else:
        small_model(folder / "model", task)
    examples = [
        {"text": row["review"], "summary": " ".join(row["review"].split()[:20]), "stars": row["stars"]}
        for row in skewed_rows(rows)
    ]
    write_rows(folder / "train.jsonl", examples)


def config(folder: Path, task: str, number: int, uid: str | None = None) -> TaskConfig:
    """Make a run config; each run has a claim of its own."""
    columns = {"text-classification": {"text": "text", "label": "stars"}, "text-generation": {"text": "text"}}
    limits = {
        "text-classification": {"maxLength": 128},
        "summarization": {"maxSourceLength": 1024, "maxTargetLength": 128, "sourcePrefix": "summarize: "},
        "text-generation": {"maxLength": 512, "packing": True},
    }
    claim = folder / f"claim-{number}"
    claim.mkdir(exist_ok=True)
    return run_config(
        folder,
        task=task,
        uid=uid or f"run-{number}",
        output=str(claim),
        dataset={
            "files": {"train": [str(folder / "train.jsonl")]},
            "columns": columns.get(task, {"text": "text", "summary": "summary"}),
        },
        preprocessing=limits[task],
    )


def by_hand(folder: Path, task: str, number: int) -> Measured:
    """Run the script, with nothing in its cache."""
    padded = ["--pad-to-max-length"] if task == "text-classification" else []
    command = [sys.executable, "-m", "benchmarks.prepare_by_hand", task, str(folder), *padded]
    cores = {"OMP_NUM_THREADS": str(os.cpu_count())}  # Arrow reads it: all cores, as for ours
    return Measured(**run(command, {**cores, "HF_HOME": str(folder / f"cache-{number}"), "HF_HUB_OFFLINE": "1"}))


def by_hand_again(folder: Path) -> float:
    """Run the script with everything in its cache."""
    began = time.perf_counter()
    by_hand(folder, "text-classification", 0)
    return time.perf_counter() - began


def product(folder: Path, job: TaskConfig) -> tuple[dict[str, float], float, float]:
    """Run `prepare`; return its figures, the seconds of the whole process, and the peak memory of all its processes in MiB."""
    (folder / "run.json").write_text(job.to_json())
    result = folder / "ours.json"
    result.unlink(missing_ok=True)
    environment = {
        **os.environ,
        Env.CONFIG.value: str(folder / "run.json"),
        Env.TERMINATION_LOG.value: str(folder / "termination-log"),
        "PYTHONPATH": str(REPOSITORY),
        "RESULT": str(result),
    }
    began = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.prepare_rank", "prepare"]
    with Popen(command, env=environment, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, text=True) as process:
        sampler = _PeakMemory(process.pid)
        _, log = process.communicate()
        seconds = time.perf_counter() - began
        peak = sampler.end()
    if process.returncode:
        raise RuntimeError(f"prepare failed:\n{log[-8000:]}")
    return json.loads(result.read_text()) if result.exists() else {}, seconds, peak


# --- memory ----------------------------------------------------------------------------------------------------------


def memory(folder: Path) -> Table:
    """Measure a rank with more and more rows, and preparing for the largest number of rows."""
    memory_folder = folder / "memory"
    memory_folder.mkdir()
    (memory_folder / "model").symlink_to(minilm())
    used, peak, seconds = {}, 0.0, 0.0
    for rows in SIZES:
        short = (" ".join(row["review"].split()[:SHORT_WORDS]) for row in skewed_rows(rows))
        with (memory_folder / "train.jsonl").open("w") as file:
            for number, text in enumerate(short):
                file.write(json.dumps({"text": text, "stars": "ab"[number % 2]}) + "\n")
        job = config(memory_folder, "text-classification", rows)
        _, seconds, peak = product(memory_folder, job)
        (data,) = (memory_folder / f"claim-{rows}" / ".finetune" / "prepared").iterdir()
        used[rows] = run([sys.executable, "-m", "benchmarks.prepare_rank", "rank", str(data)], {})["after"] / MIB
        print(f"{rows:,} rows: rank {used[rows]:.0f} MiB, prepare {peak:.0f} MiB in {seconds:.0f} s", flush=True)
    fewest, most = SIZES[0], SIZES[-1]
    mebibytes = ", ".join(f"{used[rows]:.0f}" for rows in SIZES)
    figures = (
        Figure(
            f"a rank's own memory at {', '.join(f'{rows:,}' for rows in SIZES)} rows: growth per row",
            "-",
            f"{mebibytes} MiB",
            (used[most] - used[fewest]) * MIB / (most - fewest),
            64,
            "bytes",
        ),
        Figure(f"preparing {most:,} short rows: all processes", "-", f"{seconds:.0f} s", peak / 1024, 2, "GiB"),
    )
    return Table("memory", figures, ("-", "FineTuneJob"))


class _PeakMemory:
    """The peak memory of a process and its children, shared pages counted once."""

    def __init__(self, pid: int) -> None:
        self._pid, self._peak, self._over = pid, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def end(self) -> float:
        """Stop sampling and return the peak, in MiB."""
        self._over.set()
        self._thread.join()
        return self._peak

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            try:
                root = psutil.Process(self._pid)
                resident = [_resident(process) for process in (root, *root.children(recursive=True))]
            except psutil.NoSuchProcess:
                continue
            self._peak = max(self._peak, sum(resident) / MIB)


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0
