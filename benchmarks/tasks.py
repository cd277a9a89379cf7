"""Summarisation and language modelling: documents a second of training, beside scripts in the shape of the public ones.

The product runs as in a pod: `launch`, torchrun, `train`; the script (`tasks_by_hand.py`) under torchrun, once padding to
max_length and once with its best collator: length grouping, or texts joined into full rows. Same model (a T5 and a GPT-2 of
a few million parameters with MiniLM's vocabulary), same documents, same batch; one rank, one thread. Timed are the steps of
an epoch but the first; where every batch is as long as the next, some steps are enough. Documents: log-normal lengths.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import Figure, Table
from benchmarks.one_node import run, run_config, run_launch
from benchmarks.throughput import minilm, skewed_rows
from tests.support.tiny import write_rows

RUNS = 3
DOCUMENTS = 480
BATCH = 8
MAX_LENGTH = 256
TARGET_LENGTH = 32
PADDED_STEPS = 8
SUMMARY_WORDS = 8


@dataclass(frozen=True)
class Measured:
    steps: int
    seconds: float
    loss: float | None

    def documents_per_second(self, per_step: float) -> float:
        return self.steps * per_step / self.seconds


def main(runs: int = RUNS) -> tuple[Table, ...]:
    """Both tasks."""
    with tempfile.TemporaryDirectory(prefix="tasks-") as name:
        return tuple(compare(Path(name) / task, task, runs) for task in ("summarization", "text-generation"))


def compare(folder: Path, task: str, runs: int) -> Table:
    """Padded, best by hand, and ours in turn."""
    make(folder, task)
    padded = by_hand(folder, task, "--pad-to-max-length", f"--max-steps={PADDED_STEPS}")
    best, ours = [], []
    for number in range(runs):
        best.append(by_hand(folder, task))
        ours.append(product(folder, task, number))
        print(f"{task}: by hand {best[-1]}, FineTuneJob {ours[-1]}", flush=True)
    theirs = [one.documents_per_second(_documents_per_step(task, one)) for one in best]
    mine = [one.documents_per_second(_documents_per_step(task, one)) for one in ours]
    before, now = (median(one.loss for one in kind if one.loss is not None) for kind in (best, ours))
    slow = padded.documents_per_second(BATCH)
    rows = (
        _figure('padding="max_length"', slow, median(mine), 2.5),
        _figure(f"its best collator, median of {runs}", median(theirs), median(mine), 1.0),
        _figure("its best collator, quickest", max(theirs), max(mine), None),
        Figure("training loss at the end of the epoch", f"{before:.3f}", f"{now:.3f}", now / before),
    )
    return Table(f"documents/s, {task}, 1 rank", rows, ("script by hand", "FineTuneJob"))


def _figure(what: str, before: float, now: float, target: float | None) -> Figure:
    return Figure(what, f"{before:.1f} /s", f"{now:.1f} /s", now / before, target, at_least=True)


def _documents_per_step(task: str, measured: Measured) -> float:
    """All documents go by in an epoch, however many of them share a row; the first step is not timed."""
    return DOCUMENTS / (measured.steps + 1)


def make(folder: Path, task: str) -> None:
    """Model and data."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

    folder.mkdir()
    tokenizer = AutoTokenizer.from_pretrained(minilm())
    tokenizer.eos_token, tokenizer.model_max_length = tokenizer.sep_token, 512
    torch.manual_seed(0)
    pad, end = tokenizer.pad_token_id, tokenizer.sep_token_id
    model: Any
    if task == "summarization":
        sizes = {"d_model": 192, "d_kv": 48, "d_ff": 768, "num_layers": 4, "num_heads": 4}
        tokens = {"pad_token_id": pad, "eos_token_id": end, "decoder_start_token_id": pad}
        model = T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **sizes, **tokens))
    else:
        shape = {"n_embd": 192, "n_layer": 4, "n_head": 4, "n_positions": 512}
        tokens = {"pad_token_id": pad, "eos_token_id": end, "bos_token_id": tokenizer.cls_token_id}
        model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **shape, **tokens))
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    texts = [row["review"] for row in skewed_rows(DOCUMENTS)]
    rows = [{"text": text, "summary": " ".join(text.split()[:SUMMARY_WORDS])} for text in texts]
    write_rows(folder / "train.jsonl", rows)


def product(folder: Path, task: str, number: int) -> Measured:
    """A FineTuneJob's pod."""
    limits = {"summarization": {"maxSourceLength": MAX_LENGTH, "maxTargetLength": TARGET_LENGTH}}
    columns = {"summarization": {"text": "text", "summary": "summary"}}
    own = folder / f"ours-{number}"
    own.mkdir()
    config = run_config(
        folder,
        task=task,
        dataset={"files": {"train": [str(folder / "train.jsonl")]}, "columns": columns.get(task, {"text": "text"})},
        preprocessing=limits.get(task, {"maxLength": MAX_LENGTH, "packing": True}),
        trainingArguments={
            "num_train_epochs": 1,
            "per_device_train_batch_size": BATCH,
            "logging_steps": 10,
            "save_strategy": "no",
        },
    )
    result = own / "result.json"
    run_launch(own, config, ("benchmarks.tasks_rank", "ours"), result)
    return Measured(**json.loads(result.read_text()))


def by_hand(folder: Path, task: str, *options: str) -> Measured:
    """The script."""
    result = folder / "by-hand.json"
    result.unlink(missing_ok=True)
    arguments = (f"--task={task}", f"--folder={folder}", f"--max-length={MAX_LENGTH}", *options)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1")
    environment = {
        "GLOO_SOCKET_IFNAME": "lo",
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    run([sys.executable, *torchrun, "-m", "benchmarks.tasks_rank", "hand", *arguments], environment, result)
    return Measured(**json.loads(result.read_text()))
