"""Facts about each task that are known before anything runs: one row a task. Its code is in the module of that name in `tasks`.

The operator checks a FineTuneJob with these facts, so this module imports the standard library alone. A test compares them
with the modules of `tasks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

TaskName = Literal[
    "text-classification",
    "token-classification",
    "question-answering",
    "summarization",
    "translation",
    "text-generation",
    "fill-mask",
]
ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
"""Kinds of labels, under the names of transformers."""


@dataclass(frozen=True)
class TaskFacts:
    """Facts about a task that other modules than its own need."""

    model_class: str
    """The class of transformers that makes a model with the task's head."""
    roles: Mapping[str, str | None]
    """Role of a column -> its name in the data where `columns` does not say; None for a column that is read only if named."""
    required: tuple[tuple[str, ...], ...]
    """Sets of roles: the data must have all roles of one set."""
    preprocessing: tuple[str, ...]
    """Fields of `preprocessing` that the task uses, beside the fields that all tasks use."""
    metrics: Mapping[str, bool]
    """Metric -> whether more is better. `loss` is every task's."""
    of_problem: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    """Metrics of a `problemType` that has its own."""
    class_means: tuple[str, ...] = ()
    """Metrics that are means over classes; the F1 of tags and answers is another metric of that name."""
    peft_type: str | None = None
    """Name of the task in peft; None where peft has none."""
    new_head: bool = False
    """Whether the head begins at random: then it is trained as a whole, and saved with an adapter."""
    labelled: bool = False
    """Whether the model's configuration holds labels, which an adapter is saved without, and the loss can weigh them."""
    writes: bool = False
    """Whether the decoder of a model with an encoder writes a text: then evaluations generate."""
    masks: bool = False
    """Whether the model guesses hidden tokens: then a text that tries it needs one."""
    pipeline: bool = True
    """Whether transformers 5 has a pipeline for the task."""
    prefix: str = ""
    """Words with which each text began when T5 was trained."""
    sample: str = ""
    """Example of an input, for the model card."""

    @property
    def labels_rows(self) -> bool:
        """Whether labels belong to the whole row: `problemType` names their kind."""
        return bool(self.of_problem)


_TAGS = {"precision": True, "recall": True, "f1": True, "accuracy": True}
_ROUGE = {"rouge1": True, "rouge2": True, "rougeL": True, "rougeLsum": True, "gen_len": True}
_TOKENS = {"perplexity": False, "accuracy": True}
_ONE_TEXT = ("max_length", "truncation_side")
_TWO_TEXTS = (
    "max_source_length",
    "max_target_length",
    "source_prefix",
    "source_language",
    "target_language",
    "truncation_side",
)
TASKS: Mapping[str, TaskFacts] = {
    "text-classification": TaskFacts(
        model_class="AutoModelForSequenceClassification",
        roles={"text": "text", "text_pair": None, "label": "label"},
        required=(("text", "label"),),
        preprocessing=_ONE_TEXT,
        metrics={"accuracy": True, "f1": True},
        of_problem={
            "multi_label_classification": {"f1": True, "f1_micro": True, "accuracy": True},
            "regression": {"mse": False, "pearson": True},
        },
        class_means=("f1",),
        peft_type="SEQ_CLS",
        new_head=True,
        labelled=True,
    ),
    "token-classification": TaskFacts(
        model_class="AutoModelForTokenClassification",
        roles={"words": "tokens", "tags": "ner_tags"},
        required=(("words", "tags"),),
        preprocessing=_ONE_TEXT,
        metrics=_TAGS,
        peft_type="TOKEN_CLS",
        new_head=True,
        labelled=True,
    ),
    "question-answering": TaskFacts(
        model_class="AutoModelForQuestionAnswering",
        roles={"question": "question", "context": "context", "answers": "answers", "id": None},
        required=(("question", "context", "answers"),),
        preprocessing=("max_length", "stride"),
        metrics={"exact_match": True, "f1": True},
        peft_type="QUESTION_ANS",
        new_head=True,
        pipeline=False,
    ),
    "summarization": TaskFacts(
        model_class="AutoModelForSeq2SeqLM",
        roles={"text": "text", "summary": "summary"},
        required=(("text", "summary"),),
        preprocessing=_TWO_TEXTS,
        metrics=_ROUGE,
        peft_type="SEQ_2_SEQ_LM",
        writes=True,
        pipeline=False,
        prefix="summarize: ",
        sample="The text to sum up.",
    ),
    "translation": TaskFacts(
        model_class="AutoModelForSeq2SeqLM",
        roles={"source": "source", "target": "target"},
        required=(("source", "target"),),
        preprocessing=_TWO_TEXTS,
        metrics={"bleu": True, "chrf": True, "gen_len": True},
        peft_type="SEQ_2_SEQ_LM",
        writes=True,
        pipeline=False,
        prefix="translate English to German: ",
        sample="The text to translate.",
    ),
    "text-generation": TaskFacts(
        model_class="AutoModelForCausalLM",
        roles={"text": "text", "prompt": None, "completion": None, "messages": None, "tools": None},
        required=(("text",), ("prompt", "completion"), ("messages",)),
        preprocessing=(*_ONE_TEXT, "packing"),
        metrics=_TOKENS,
        peft_type="CAUSAL_LM",
    ),
    "fill-mask": TaskFacts(
        model_class="AutoModelForMaskedLM",
        roles={"text": "text"},
        required=(("text",),),
        preprocessing=(*_ONE_TEXT, "packing", "whole_word_mask", "mask_probability"),
        metrics=_TOKENS,
        masks=True,
    ),
}


def metrics(task: str, problem_type: str | None = None) -> dict[str, bool]:
    """Return the metrics that a run reports, and of each whether more is better."""
    facts = TASKS[task]
    return {"loss": False, **(facts.of_problem.get(problem_type or "") or facts.metrics)}
