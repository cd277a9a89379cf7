"""What is known of each task before anything runs: which columns it reads, which metrics it reports.

Part of the contract, so no imports beyond the standard library: the operator checks a FineTuneJob with it. That the
modules of `tasks` keep to it is tested.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TaskFacts:
    roles: Mapping[str, str | None]
    """Role of a column -> its name in the data where `columns` does not say; None for one that is read only if named."""
    required: tuple[tuple[str, ...], ...]
    """Sets of roles, of which one must be there as a whole."""
    metrics: Mapping[str, bool]
    """Metric -> whether more is better. `loss` is every task's."""
    of_problem: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    """Metrics of a `problemType` that has its own."""


CLASSES = {"accuracy": True, "f1": True}
TAGS = {"precision": True, "recall": True, "f1": True, "accuracy": True}
ROUGE = {"rouge1": True, "rouge2": True, "rougeL": True, "rougeLsum": True, "gen_len": True}
TASKS: Mapping[str, TaskFacts] = {
    "text-classification": TaskFacts(
        roles={"text": "text", "text_pair": None, "label": "label"},
        required=(("text", "label"),),
        metrics=CLASSES,
        of_problem={
            "multi_label_classification": {"f1": True, "f1_micro": True, "accuracy": True},
            "regression": {"mse": False, "pearson": True},
        },
    ),
    "token-classification": TaskFacts(
        roles={"words": "tokens", "tags": "ner_tags"}, required=(("words", "tags"),), metrics=TAGS
    ),
    "question-answering": TaskFacts(
        roles={"question": "question", "context": "context", "answers": "answers", "id": None},
        required=(("question", "context", "answers"),),
        metrics={"exact_match": True, "f1": True},
    ),
    "summarization": TaskFacts(
        roles={"text": "text", "summary": "summary"}, required=(("text", "summary"),), metrics=ROUGE
    ),
    "translation": TaskFacts(
        roles={"source": "source", "target": "target"},
        required=(("source", "target"),),
        metrics={"bleu": True, "chrf": True, "gen_len": True},
    ),
    "text-generation": TaskFacts(
        roles={"text": "text", "prompt": None, "completion": None, "messages": None, "tools": None},
        required=(("text",), ("prompt", "completion"), ("messages",)),
        metrics={"perplexity": False, "accuracy": True},
    ),
    "fill-mask": TaskFacts(
        roles={"text": "text"}, required=(("text",),), metrics={"perplexity": False, "accuracy": True}
    ),
}


def metrics(task: str, problem_type: str | None = None) -> dict[str, bool]:
    """Metrics that a run reports -> whether more is better."""
    facts = TASKS[task]
    return {"loss": False, **(facts.of_problem.get(problem_type or "") or facts.metrics)}
