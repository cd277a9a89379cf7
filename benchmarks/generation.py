"""Evaluation that generates: rows a second of this trainer, beside transformers' Seq2SeqTrainer used as its example scripts do.

Same T5 of random weights, same rows, same batch, one process, one thread. The length of each text is prescribed, as
a trained model would choose it: translations are as long as their sources, summaries have lengths of their own. Both write
the same tokens; they differ in the order in which rows are batched, and in what is computed twice.
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
"""Points by which the two scores may differ: padding changes the last digits of sums."""
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
    """Measure both in turn, so that a busy machine slows both."""
    in_process = prepared(folder, task)
    script, ours = by_script(in_process, folder), by_ranks(in_process, folder)
    script_rates, our_rates = [], []
    for number in range(runs + 1):
        (script_seconds, script_metrics), (our_seconds, our_metrics) = timed(script), timed(ours)
        if number:  # the first warms up
            script_rates.append(ROWS / script_seconds)
            our_rates.append(ROWS / our_seconds)
        print(f"{task}: Seq2SeqTrainer {script_seconds:.1f} s, ours {our_seconds:.1f} s", flush=True)
    metric = SCORES[task]
    rate = rates(f"{task}, median of {runs}", median(script_rates), median(our_rates), TARGET)
    scores = (script_metrics[f"eval_{metric}"], our_metrics[f"eval_{metric}"])
    difference = abs(scores[1] - scores[0])
    return [rate, Figure(f"{task}, {metric}", f"{scores[0]:.2f}", f"{scores[1]:.2f}", difference, SAME, "points")]


def timed(evaluate: Any) -> tuple[float, dict[str, float]]:
    begun = time.perf_counter()
    metrics = evaluate()
    return time.perf_counter() - begun, metrics


def prepared(folder: Path, task: str) -> InProcess:
    """Prepare a run whose model ends each text after the prescribed number of tokens."""
    folder.mkdir()
    rows = texts(task)
    columns = {
        "translation": {"source": "read", "target": "write"},
        "summarization": {"text": "read", "summary": "write"},
    }
    lengths = {"max_source_length": 520, "max_target_length": 66}
    model = tiny_t5(folder / "model", size=SIZE, layers=LAYERS)
    in_process = InProcess.of(
        pair_config(folder, task, model, train=rows[:8], validation=rows, columns=columns[task], preprocessing=lengths)
    )
    ends = {
        tuple(row["input_ids"]): end_of(task, row) for row in (in_process.rows("validation")[i] for i in range(ROWS))
    }
    prescribe(in_process.run.model, ends, range(len(SPECIAL), in_process.run.tokenizer.convert_tokens_to_ids("▁")))
    return in_process


def texts(task: str) -> list[Row]:
    chance = random.Random(0)

    def text(median_words: int, sigma: float, max_words: int) -> str:
        return " ".join(chance.choices(NOISE, k=skewed_length(chance, median_words, sigma, max_words)))

    sources = [text(*TEXTS[task]) for _ in range(ROWS)]
    written = sources if task == "translation" else [text(*SUMMARY) for _ in sources]
    return [{"read": source, "write": target} for source, target in zip(sources, written, strict=True)]


def end_of(task: str, row: Row) -> int:
    """Return the number of tokens after which a text ends. A summary's length can't be foreseen, not even from its reference."""
    if task == "translation":
        return len(row["input_ids"])
    return skewed_length(random.Random(str(row["input_ids"])), *SUMMARY)


def prescribe(model: Any, ends: dict[tuple[int, ...], int], words: range) -> None:
    """Make `generate` write words only, and end the text of each source after the number of tokens in `ends`."""
    import torch

    stock = type(model).generate

    def generate(self: Any, **inputs: Any) -> Any:
        sources = [
            tuple(ids[mask.bool()].tolist())
            for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
        ]
        lengths = torch.tensor([ends[ids] for ids in sources])
        end = self.config.eos_token_id

        def steer(written: Any, scores: Any) -> Any:
            ended = written.shape[1] >= lengths
            scores[:, : words.start] = -torch.inf
            scores[:, words.stop :] = -torch.inf
            scores[ended] = -torch.inf
            scores[ended, end] = 0.0
            return scores

        return stock(self, **inputs, logits_processor=[steer])

    model.generate = MethodType(generate, model)


def by_script(in_process: InProcess, folder: Path) -> Any:
    """Return a function that evaluates rows in their order, collated by DataCollatorForSeq2Seq."""
    from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

    model, tokenizer, rows = in_process.run.model, in_process.run.tokenizer, in_process.rows("validation")
    references = in_process.examples("validation").column(in_process.task.roles[1]).to_pylist()  # type: ignore[attr-defined]

    def metrics(outcome: Any) -> dict[str, float]:
        import numpy as np

        tokens = np.where(outcome.predictions >= 0, outcome.predictions, tokenizer.pad_token_id)
        written = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return dict(in_process.task.scores(written, references))  # type: ignore[attr-defined]

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


def by_ranks(in_process: InProcess, folder: Path) -> Any:
    """Return a function that evaluates as a rank does."""
    from transformers import TrainingArguments

    from finetune_trainer.data.prepared_dataset import Collator
    from finetune_trainer.data.sampler import by_length
    from finetune_trainer.train.trainer import RankTrainer

    assert to_local(in_process.prepared.data).is_dir()
    plain = in_process.rows("validation")
    rows, task, run = plain.ordered(by_length(plain.lengths)), in_process.task, in_process.run
    unused: Any = None
    trainer = RankTrainer(
        batches=unused,
        pulse=unused,
        save=unused,
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
            run, Evaluated(outcome.predictions, outcome.label_ids, rows, in_process.examples("validation"))
        ),
    )
    return trainer.evaluate
