"""What a person is told of a job that has succeeded: its metrics, and a line of code that tries the model. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.plan.types import Manifest
from finetune_trainer import task_facts
from finetune_trainer.config import PrepareSummary

EVAL, TEST = "eval_", "test_"
HIDDEN = ("runtime", "per_second", "epoch", "step")
"""Ends of names that tell nothing of the model."""

_LOADED = (
    "from transformers import AutoTokenizer, {cls}; t = AutoTokenizer.from_pretrained('{folder}'); "
    "m = {cls}.from_pretrained('{folder}'); "
)
_WRITES = _LOADED + (
    "print(t.batch_decode(m.generate(**t('{prefix}your text', return_tensors='pt')), skip_special_tokens=True))"
)
_ANSWERS = _LOADED + (
    "i = t('your question', 'your context', return_tensors='pt'); o = m(**i); "
    "print(t.decode(i.input_ids[0][o.start_logits.argmax() : o.end_logits.argmax() + 1]))"
)


def metric_lines(job: FineTuneJob, status: Manifest, prepared: PrepareSummary | None) -> Iterator[str]:
    """The metrics of the last evaluation and of the test, those of the task first."""
    evaluation = status.get("evaluation") or {}
    own = task_facts.metrics(job.spec.task, job.spec.problem_type)
    guess = prepared.majority_share if prepared is not None else None
    reached = of_name(evaluation, "accuracy")
    if reached is not None and guess is not None and job.spec.task == "text-classification":
        yield f"accuracy   {reached:.3f} (guessing the commonest label: {guess:.3f})"
    ours = {name: value for name, value in evaluation.items() if not name.startswith(TEST)}
    tested = {name.removeprefix(TEST): value for name, value in evaluation.items() if name.startswith(TEST)}
    for head, found in (("evaluation", ours), ("test", tested)):
        if found:
            yield f"{head:<10} {metrics(found, own)}"


def metrics(evaluation: Mapping[str, float], first: Mapping[str, bool] | None = None) -> str:
    """The metrics that a person looks at, short: those named `first` in their order, the loss after them."""
    names = {name.removeprefix(EVAL): value for name, value in evaluation.items() if not name.endswith(HIDDEN)}
    order = [name for name in first or () if name in names and name != "loss"]
    rest = [name for name in names if name not in order]
    return ", ".join(f"{name} {names[name]:.4g}" for name in (*order, *rest))


def of_name(evaluation: Mapping[str, float] | None, name: str) -> float | None:
    """A metric under its own name, or the Trainer's."""
    found = evaluation or {}
    return found.get(name, found.get(f"{EVAL}{name}"))


def code(job: FineTuneJob, folder: str, labels: int | None = None) -> str:
    """A line of Python that tries the model; without double quotes, so that a shell takes it in some.

    `labels`: how many there are, if that is known. An adapter does not bring them along.
    """
    task = job.spec.task
    match task:
        case "summarization" | "translation":
            prefix = job.spec.preprocessing.source_prefix or ""
            plain = prefix if prefix.replace(" ", "").replace(":", "").isalnum() else ""  # of no meaning to a shell
            return _WRITES.format(cls="AutoModelForSeq2SeqLM", folder=folder, prefix=plain)
        case "question-answering":
            return _ANSWERS.format(cls="AutoModelForQuestionAnswering", folder=folder)
        case "fill-mask":
            made = f"p = pipeline('{task}', '{folder}')"
            return f"from transformers import pipeline; {made}; print(p('your text ' + p.tokenizer.mask_token))"
        case _:
            adapter = job.spec.peft is not None and not job.spec.peft.save_merged
            more = f", model_kwargs={{'num_labels': {labels}}}" if adapter and labels else ""
            return f"from transformers import pipeline; print(pipeline('{task}', '{folder}'{more})('your text'))"
