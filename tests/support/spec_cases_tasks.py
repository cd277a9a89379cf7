"""Fields that fit a task, and fields that do not: a case or more for each rule, made from the facts of the tasks."""

from __future__ import annotations

from typing import Any

from pydantic.alias_generators import to_camel

from finetune_operator.api.rules.rule import listed
from finetune_operator.api.rules.tasks import PREPROCESSING
from finetune_trainer.contract.task_facts import TASKS, metrics
from tests.support.spec_case import ARGUMENTS, GPU, Case, Patch, of_arguments


def _of(task: str, **fields: Any) -> Patch:
    """Return a spec of a task; `__` in a keyword is a dot."""
    return {"task": task, **{path.replace("__", "."): value for path, value in fields.items()}}


_SEVERAL = "multi_label_classification"
_QUANTIZED = {"quantization": {"bits": 4}, "peft": {"r": 16}}
_TOGETHER = (("prompt", "completion"), ("tools", "messages"))
"""Pairs of roles: neither of the first pair is good alone; the first of the second pair needs the second."""
_ROLE_CASES = tuple(
    Case(
        f"column-{to_camel(role)}-of-{other}",
        {"task": task, "dataset.columns": {to_camel(name): f"my.{name}" for name in together}},
        {"task": other, "dataset.columns": {to_camel(role): "mine"}},
        f"spec.dataset.columns.{to_camel(role)}",
        f'"{other}" reads no column of this role: leave it out, or name one of its roles: '
        f"{listed([to_camel(role_name) for role_name in TASKS[other].roles])}",
    )
    for task, facts in TASKS.items()
    for role in facts.roles
    for together in [next((roles for roles in _TOGETHER if role in roles), (role,))]
    for other in [next(name for name in reversed(list(TASKS)) if role not in TASKS[name].roles)]
)
_PREPROCESSING_VALUES: dict[str, Any] = {
    "sourcePrefix": "summarize: ",
    "sourceLanguage": "en_XX",
    "targetLanguage": "deu_Latn",
    "truncationSide": "left",
    "packing": False,
    "wholeWordMask": True,
    "maskProbability": 0.3,
}
_PREPROCESSING_CASES = tuple(
    Case(
        f"{field}-of-{task}",
        {"task": task, f"preprocessing.{field}": _PREPROCESSING_VALUES.get(field, 64)},
        {"task": other, f"preprocessing.{field}": _PREPROCESSING_VALUES.get(field, 64)},
        f"spec.preprocessing.{field}",
        f'"{other}" makes no use of it, {listed(tasks)} do',
    )
    for field, tasks in PREPROCESSING.items()
    for task in tasks
    for other in [next(name for name in TASKS if name not in tasks)]
)
_METRIC_CASES = tuple(
    Case(
        f"metric-{metric}-of-{problem or task}",
        {**of_problem, "task": task, ARGUMENTS: {"metric_for_best_model": f"{prefix}{metric}"}},
        {**of_problem, "task": task, ARGUMENTS: {"metric_for_best_model": f"{prefix}{wrong}"}},
        "spec.trainingArguments.metric_for_best_model",
        f'"{prefix}{wrong}" is no metric of this task: choose one of: {listed(metrics(task, problem), "or")}',
    )
    for task, facts in TASKS.items()
    for problem in (None, *facts.of_problem)
    for of_problem in [{"problemType": problem} if problem else {}]
    for number, metric in enumerate(metrics(task, problem))
    for prefix in ["eval_" if number else ""]
    for wrong in ["chrf" if task != "translation" else "rougeL"]
)
TASK_CASES = (
    *_ROLE_CASES,
    *_PREPROCESSING_CASES,
    *_METRIC_CASES,
    *(
        Case(
            f"column-{column}-alone",
            _of("text-generation", dataset__columns={"prompt": "question", "completion": "answer"}),
            _of("text-generation", dataset__columns={column: "mine"}),
            f"spec.dataset.columns.{column}",
            f'"mine" needs the other half of each pair: name its column in {missing}',
        )
        for column, missing in (("prompt", "completion"), ("completion", "prompt"))
    ),
    Case(
        "column-tools-alone",
        _of("text-generation", dataset__columns={"messages": "turns", "tools": "functions"}),
        _of("text-generation", dataset__columns={"tools": "functions"}),
        "spec.dataset.columns.tools",
        '"functions" goes with conversations: name their column in messages, or leave it out',
    ),
    *(
        Case(
            f"column-{'-and-'.join(columns)}",
            _of("text-generation", dataset__columns={column: "mine"}),
            _of("text-generation", dataset__columns=dict.fromkeys(columns, "mine")),
            f"spec.dataset.columns.{column}",
            '"mine" is one way to give the text, and another is named too: choose',
        )
        for column, columns in (
            ("text", ("text", "messages")),
            ("text", ("text", "prompt", "completion")),
            ("messages", ("messages", "prompt", "completion")),
        )
    ),
    Case(
        "stride-over-max-length",
        _of("question-answering", preprocessing={"stride": 63, "maxLength": 64}),
        _of("question-answering", preprocessing={"stride": 64, "maxLength": 64}),
        "spec.preprocessing.stride",
        '"64" is not below maxLength',
    ),
    Case(
        "problem-type-of-other-task",
        {"problemType": "multi_label_classification"},
        _of("token-classification", problemType="single_label_classification"),
        "spec.problemType",
        '"token-classification" makes no use of it, text-classification does: leave it out',
    ),
    Case(
        "label-columns-of-one-class",
        {"problemType": _SEVERAL, "dataset.labelColumns": ["toxic", "threat"]},
        {"dataset.labelColumns": ["toxic", "threat"]},
        "spec.dataset.labelColumns",
        "are for texts with any number of labels: set problemType to multi_label_classification",
    ),
    Case(
        "label-columns-beside-label",
        {"problemType": _SEVERAL, "dataset.labelColumns": ["toxic"], "dataset.columns": {"text": "comment"}},
        {"problemType": _SEVERAL, "dataset.labelColumns": ["toxic"], "dataset.columns": {"label": "labels"}},
        "spec.dataset.labelColumns",
        "names the labels, and columns.label does too: leave one of the two out",
    ),
    Case(
        "label-columns-twice",
        {"problemType": _SEVERAL, "dataset.labelColumns": ["toxic", "threat"]},
        {"problemType": _SEVERAL, "dataset.labelColumns": ["toxic", "toxic"]},
        "spec.dataset.labelColumns",
        "one column is there twice: name each label once",
    ),
    Case(
        "label-columns-of-the-text",
        {"problemType": _SEVERAL, "dataset.labelColumns": ["toxic"], "dataset.columns": {"text": "comment"}},
        {"problemType": _SEVERAL, "dataset.labelColumns": ["toxic"], "dataset.columns": {"text": "toxic"}},
        "spec.dataset.labelColumns",
        "one column has two roles: the text is no label",
    ),
    Case(
        "label-columns-of-the-second-text",
        {"problemType": _SEVERAL, "dataset.labelColumns": ["toxic"], "dataset.columns": {"textPair": "answer"}},
        {"problemType": _SEVERAL, "dataset.labelColumns": ["toxic"], "dataset.columns": {"textPair": "toxic"}},
        "spec.dataset.labelColumns",
        "one column has two roles: the text is no label",
    ),
    Case(
        "loss-weights-of-other-task",
        _of("token-classification", lossWeights="balanced"),
        _of("summarization", lossWeights="balanced"),
        "spec.lossWeights",
        '"summarization" makes no use of it, text-classification and token-classification do: leave it out',
    ),
    Case(
        "loss-weights-of-regression",
        {"lossWeights": "balanced", "problemType": "multi_label_classification"},
        {"lossWeights": "balanced", "problemType": "regression"},
        "spec.lossWeights",
        '"regression" has numbers and no classes to weigh: leave it out',
    ),
    *(
        Case(
            f"{argument}-of-other-task",
            _of(task, trainingArguments={argument: value}),
            _of("fill-mask", trainingArguments={argument: value}),
            f"spec.trainingArguments.{argument}",
            '"fill-mask" makes no use of it, summarization and translation do: leave it out',
        )
        for argument, value, task in (
            ("predict_with_generate", False, "summarization"),
            ("generation_max_length", 60, "translation"),
            ("generation_num_beams", 4, "summarization"),
        )
    ),
    Case(
        "one-column-for-two-roles",
        {"dataset.columns": {"text": "a", "textPair": "b"}},
        {"dataset.columns": {"text": "a", "textPair": "a"}},
        "spec.dataset.columns",
        "one column has two roles: name another for one of them",
    ),
    Case(
        "metric-of-text-that-is-not-written",
        _of("summarization", trainingArguments={"predict_with_generate": False, "metric_for_best_model": "loss"}),
        _of("summarization", trainingArguments={"predict_with_generate": False, "metric_for_best_model": "rouge1"}),
        "spec.trainingArguments.metric_for_best_model",
        '"rouge1" is a metric of text that the model writes in evaluations: leave predict_with_generate out, or choose loss',
    ),
    Case(
        "smoothing-of-regression",
        {"problemType": "regression", "trainingArguments": {"label_smoothing_factor": 0}},
        {"problemType": "regression", "trainingArguments": {"label_smoothing_factor": 0.1}},
        "spec.trainingArguments.label_smoothing_factor",
        '"regression" has numbers and no classes to smooth: leave label_smoothing_factor out',
    ),
    Case(
        "quantization-without-peft",
        {**_QUANTIZED, "resources.limits": {GPU: 1}},
        {"quantization": {}, "resources.limits": {GPU: 1}},
        "spec.quantization",
        "weights in 4 bits can't be trained, an adapter on them can: give peft too, such as peft: {r: 16}",
    ),
    *(
        Case(
            f"quantization-on-{name}",
            {**_QUANTIZED, "resources.limits": {"nvidia.com/mig-1g.5gb": "1"}},
            {**_QUANTIZED, "resources": resources},
            "spec.quantization",
            "needs a CUDA device: ask for one in resources.limits, such as nvidia.com/gpu: 1",
        )
        for name, resources in (("cpu", {"limits": {"cpu": 2}}), ("nothing", {}), ("none", {"limits": {GPU: 0}}))
    ),
    Case(
        "quantization-with-a-claim",
        {
            **_QUANTIZED,
            "template": {"spec": {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]}},
        },
        _QUANTIZED,
        "spec.quantization",
        "needs a CUDA device: ask for one in resources.limits, such as nvidia.com/gpu: 1",
    ),
    Case(
        "all-linear-and-more",
        {"peft": {"targetModules": ["all-linear"]}},
        {"peft": {"targetModules": ["q_proj", "all-linear"]}},
        "spec.peft.targetModules",
        "all-linear stands for all of them: leave the other names out",
    ),
    *(
        Case(
            f"early-stopping-{name}",
            {"earlyStopping": {"patience": 3}, ARGUMENTS: {"eval_strategy": "epoch"}},
            {"earlyStopping": {}, **patch},
            "spec.earlyStopping",
            "needs evaluations to look at: set trainingArguments.eval_strategy to epoch or steps",
        )
        for name, patch in (("without-arguments", {}), ("without-evaluation", of_arguments(eval_strategy="no")))
    ),
)
