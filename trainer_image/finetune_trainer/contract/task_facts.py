"""What is known of each task before anything runs: one row a task. What it does is in the module of `tasks` of its name.

Part of the contract, so no imports beyond the standard library: the operator checks a FineTuneJob with it. That the
modules of `tasks` keep to it is tested.
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
"""As transformers calls them."""


@dataclass(frozen=True)
class TaskFacts:
    """What others than its own module must know of a task."""

    model_class: str
    """The class of transformers that makes a model with the task's head."""
    roles: Mapping[str, str | None]
    """Role of a column -> its name in the data where `columns` does not say; None for one that is read only if named."""
    required: tuple[tuple[str, ...], ...]
    """Sets of roles, of which one must be there as a whole."""
    preprocessing: tuple[str, ...]
    """Fields of `preprocessing` that it uses, beside those that all tasks do."""
    metrics: Mapping[str, bool]
    """Metric -> whether more is better. `loss` is every task's."""
    of_problem: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    """Metrics of a `problemType` that has its own."""
    class_means: tuple[str, ...] = ()
    """Metrics that are means over classes; of tags and answers F1 is another thing of that name."""
    peft_type: str | None = None
    """What peft calls the task; it has no name for all."""
    new_head: bool = False
    """The head begins at random: it is trained as a whole, and saved with an adapter."""
    labelled: bool = False
    """Labels stand in the model's configuration, which an adapter does not bring along, and can be weighed in the loss."""
    writes: bool = False
    """The decoder of a model with an encoder writes a text: evaluations generate."""
    masks: bool = False
    """It guesses hidden tokens: a text needs one."""
    pipeline: bool = True
    """transformers 5 has a pipeline for it."""
    prefix: str = ""
    """Words that T5 was trained to find before each text."""
    sample: str = ""
    """The text that a model card lets it read."""

    @property
    def labels_rows(self) -> bool:
        """Whether a row has labels as a whole: what they are, `problemType` tells."""
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
