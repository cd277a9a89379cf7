"""Evaluation that generates: rows a second of this trainer, beside transformers' Seq2SeqTrainer used as its example scripts do.

Same T5 of random weights, same rows, same batch, one process, one thread. When a text ends is prescribed, as a trained
model would find it: translations are as long as their sources, summaries have lengths of their own. Both write the
same tokens; what differs is in which order rows are batched, and what is computed twice.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from statistics import median
from types import MethodType
from typing import Any

from benchmarks.common import Figure, Table, rates
from benchmarks.material import skewed_length
from finetune_trainer.shared.paths import to_local
from finetune_trainer.tasks.task import Evaluated
from tests.support.seq2seq import InProcess, pair_config
from tests.support.tiny import Row
from tests.support.tiny_t5 import NOISE, SPECIAL, tiny_t5

RUNS = 3
ROWS = 96
BATCH = 8
SIZE, LAYERS = 128, 4
TARGET = 1.5
SAME = 0.1
"""Points that both may be apart: padding changes the last digits of what is added up."""
TEXTS = {"translation": (16, 0.8, 64), "summarization": (120, 0.8, 512)}
"""Task -> median words of a source, sigma of their logarithm, words at most."""
SCORES = {"translation": "chrf", "summarization": "rougeL"}
SUMMARY = (24, 0.5, 64)
ARGUMENTS: dict[str, Any] = {
    "per_device_eval_batch_size": BATCH,
    "use_cpu": True,
    "report_to": "none",
    "disable_tqdm": True,
}


def main(runs: int = RUNS) -> tuple[Table, ...]:
    """Run both tasks."""
    import torch

    torch.set_num_threads(1)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="generation-") as name:
        for task in TEXTS:
            figures += compare(Path(name) / task, task, runs)
    return (
        Table(f"evaluation with generation, rows/s, batches of {BATCH}", tuple(figures), ("Seq2SeqTrainer", "ours")),
    )


def compare(folder: Path, task: str, runs: int) -> list[Figure]:
    """Measure turn by turn, so that a busy machine slows both."""
    made = prepared(folder, task)
    script, ours = by_script(made, folder), by_ranks(made, folder)
    theirs, mine = [], []
    for number in range(runs + 1):
        (their_seconds, before), (our_seconds, now) = timed(script), timed(ours)
        if number:  # the first warms up
            theirs.append(ROWS / their_seconds)
            mine.append(ROWS / our_seconds)
        print(f"{task}: Seq2SeqTrainer {their_seconds:.1f} s, ours {our_seconds:.1f} s", flush=True)
    metric = SCORES[task]
    rate = rates(f"{task}, median of {runs}", median(theirs), median(mine), TARGET)
    scores = (before[f"eval_{metric}"], now[f"eval_{metric}"])
    apart = abs(scores[1] - scores[0])
    return [rate, Figure(f"{task}, {metric}", f"{scores[0]:.2f}", f"{scores[1]:.2f}", apart, SAME, "points")]


def timed(evaluate: Any) -> tuple[float, dict[str, float]]:
    begun = time.perf_counter()
    metrics = evaluate()
    return time.perf_counter() - begun, metrics


def prepared(folder: Path, task: str) -> InProcess:
    """Prepare a run whose model ends each text where it should."""
    folder.mkdir()
    rows = texts(task)
    columns = {
        "translation": {"source": "read", "target": "write"},
        "summarization": {"text": "read", "summary": "write"},
    }
    lengths = {"max_source_length": 520, "max_target_length": 66}
    model = tiny_t5(folder / "model", size=SIZE, layers=LAYERS)
    made = InProcess.of(
        pair_config(folder, task, model, train=rows[:8], validation=rows, columns=columns[task], preprocessing=lengths)
    )
    ends = {tuple(row["input_ids"]): end_of(task, row) for row in (made.rows("validation")[i] for i in range(ROWS))}
    prescribe(made.run.model, ends, range(len(SPECIAL), made.run.tokenizer.convert_tokens_to_ids("▁")))
    return made


def texts(task: str) -> list[Row]:
    chance = random.Random(0)

    def text(middle: int, sigma: float, most: int) -> str:
        return " ".join(chance.choices(NOISE, k=skewed_length(chance, middle, sigma, most)))

    sources = [text(*TEXTS[task]) for _ in range(ROWS)]
    written = sources if task == "translation" else [text(*SUMMARY) for _ in sources]
    return [{"read": source, "write": target} for source, target in zip(sources, written, strict=True)]


def end_of(task: str, row: Row) -> int:
    """Return after how many tokens a text ends. A summary's length can't be foreseen, not from its reference either."""
    if task == "translation":
        return len(row["input_ids"])
    return skewed_length(random.Random(str(row["input_ids"])), *SUMMARY)


def prescribe(model: Any, ends: dict[tuple[int, ...], int], words: range) -> None:
    """Make `generate` write words alone, and end the text of each source after so many."""
    import torch

    stock = type(model).generate

    def generate(self: Any, **inputs: Any) -> Any:
        read = [
            tuple(ids[mask.bool()].tolist())
            for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
        ]
        wanted = torch.tensor([ends[ids] for ids in read])
        end = self.config.eos_token_id

        def steer(written: Any, scores: Any) -> Any:
            over = written.shape[1] >= wanted
            scores[:, : words.start] = -torch.inf
            scores[:, words.stop :] = -torch.inf
            scores[over] = -torch.inf
            scores[over, end] = 0.0
            return scores

        return stock(self, **inputs, logits_processor=[steer])

    model.generate = MethodType(generate, model)


def by_script(made: InProcess, folder: Path) -> Any:
    """Evaluate rows as they come, collated by DataCollatorForSeq2Seq."""
    from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

    model, tokenizer, rows = made.run.model, made.run.tokenizer, made.rows("validation")
    references = made.examples("validation").column(made.task.roles[1]).to_pylist()  # type: ignore[attr-defined]

    def metrics(outcome: Any) -> dict[str, float]:
        import numpy as np

        tokens = np.where(outcome.predictions >= 0, outcome.predictions, tokenizer.pad_token_id)
        written = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return dict(made.task.scores(written, references))  # type: ignore[attr-defined]

    trainer = Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(
            output_dir=str(folder / "script"), predict_with_generate=True, generation_max_length=66, **ARGUMENTS
        ),
        eval_dataset=[
            {name: row[name] for name in row if name != "_draw"} for row in (rows[i] for i in range(len(rows)))
        ],
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
        compute_metrics=metrics,
    )
    return trainer.evaluate


def by_ranks(made: InProcess, folder: Path) -> Any:
    """Evaluate as a rank does."""
    from transformers import TrainingArguments

    from finetune_trainer.data.prepared_dataset import Collator
    from finetune_trainer.data.sampler import by_length
    from finetune_trainer.train.trainer import RankTrainer

    assert to_local(made.prepared.data).is_dir()
    plain = made.rows("validation")
    rows, task, run = plain.ordered(by_length(plain.lengths)), made.task, made.run
    nothing: Any = None
    trainer = RankTrainer(
        batches=nothing,
        pulse=nothing,
        save=nothing,
        note={},
        reduce=task.reduce(run),
        generate=task.generate(run),
        no_cache=True,
        model=run.model,
        args=TrainingArguments(
            output_dir=str(folder / "ranks"), remove_unused_columns=False, label_names=["labels"], **ARGUMENTS
        ),
        eval_dataset=rows,
        data_collator=Collator(task.collator(run), keep_draw=False),
        processing_class=run.tokenizer,
        compute_loss_func=task.loss(run),
        compute_metrics=lambda outcome: task.metrics(
            run, Evaluated(outcome.predictions, outcome.label_ids, rows, made.examples("validation"))
        ),
    )
    return trainer.evaluate
