"""Rules of the fields that go with a task: columns, metrics, preprocessing, and the ways to train.

`task_facts` says what a task reads and reports; here that becomes CEL, one rule for each field, so that the message names
the field and the tasks that have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic.alias_generators import to_camel

from finetune_operator.api.rules.rule import Rule, cel_list, cel_map, listed, of_tasks
from finetune_operator.api.rules.training import EVALUATES
from finetune_trainer.contract.run_config import Preprocessing
from finetune_trainer.contract.task_facts import TASKS, metrics

WRITING = tuple(task for task, facts in TASKS.items() if facts.writes)
PREPROCESSING: Mapping[str, tuple[str, ...]] = {
    to_camel(field): tasks
    for field in Preprocessing.model_fields
    if (tasks := tuple(task for task, facts in TASKS.items() if field in facts.preprocessing))
}
"""Field of `preprocessing` -> tasks that use it; all tasks use the fields that are not here."""
ADVICE: Mapping[str, str] = {
    "maxLength": "give maxSourceLength and maxTargetLength in its place",
    "maxSourceLength": "give maxLength in its place",
    "sourcePrefix": "leave it out, or put the words into the text",
}
"""Field of `preprocessing` -> the way out, where it is not just to leave the field out."""
LEAVE_OUT = "leave it out"
GENERATION_ARGUMENTS = ("predict_with_generate", "generation_max_length", "generation_num_beams")


_ROLES = {task: [to_camel(role) for role in facts.roles] for task, facts in TASKS.items()}
_ROLES_OF_TASK = cel_map({task: f"'{listed(roles)}'" for task, roles in _ROLES.items()}) + "[self.task]"


def _only_for(field: str, tasks: Iterable[str], is_set: str, advice: str) -> Rule:
    """Make the rule that refuses a field for tasks without a use for it. `is_set`: CEL on spec, whether the field is given."""
    tasks = list(tasks)
    return Rule(
        "spec",
        f"!({is_set}) || self.task in {cel_list(tasks)}",
        f"makes no use of it, {listed(tasks, 'and')} {'does' if len(tasks) == 1 else 'do'}: {advice}",
        "self.task",
        field=field,
    )


COLUMNS = (
    *(
        Rule(
            "spec",
            f"!has(self.dataset.columns) || !has(self.dataset.columns.{role}) || self.task in {cel_list(tasks)}",
            "reads no column of this role: leave it out, or name one of its roles",
            "self.task",
            detail=_ROLES_OF_TASK,
            field=f".dataset.columns.{role}",
        )
        for role in dict.fromkeys(role for roles in _ROLES.values() for role in roles)
        if (tasks := tuple(task for task, roles in _ROLES.items() if role in roles))
    ),
    *(
        Rule(
            "spec.dataset.columns",
            f"!has(self.{role}) || has(self.{missing})",
            f"needs the other half of each pair: name its column in {missing}",
            f"self.{role}",
            field=f".{role}",
        )
        for role, missing in (("prompt", "completion"), ("completion", "prompt"))
    ),
    Rule(
        "spec.dataset.columns",
        "!has(self.tools) || has(self.messages)",
        "goes with conversations: name their column in messages, or leave it out",
        "self.tools",
        field=".tools",
    ),
    *(
        Rule(
            "spec",
            f"self.task != '{task}' || !has(self.dataset.columns) || !has(self.dataset.columns.{role}) || "
            + " && ".join(f"!has(self.dataset.columns.{other})" for other in others),
            f"is one way to give the text, and another is named too: choose {role} or {' or '.join(others)}",
            f"self.dataset.columns.{role}",
            field=f".dataset.columns.{role}",
        )
        for task in [task for task, facts in TASKS.items() if len(facts.required) > 1]
        for role, others in (("text", ("prompt", "messages")), ("messages", ("prompt",)))
    ),
)

_GIVEN_COLUMNS = (
    "["
    + ", ".join(
        f"has(self.{role}) ? self.{role} : ''"
        for role in dict.fromkeys(role for roles in _ROLES.values() for role in roles)
    )
    + "]"
)
DISTINCT = (
    Rule(
        "spec.dataset.columns",
        f"{_GIVEN_COLUMNS}.all(c, c == '' || {_GIVEN_COLUMNS}.exists_one(d, d == c))",
        "one column has two roles: name another for one of them",
    ),
)

_GIVES_LABEL_COLUMNS = "has(self.dataset.labelColumns)"
LABEL_COLUMNS = (
    Rule(
        "spec",
        f"!{_GIVES_LABEL_COLUMNS} || has(self.problemType) && self.problemType == 'multi_label_classification'",
        "are for texts with any number of labels: set problemType to multi_label_classification, or name the one column "
        "with the labels in columns.label",
        field=".dataset.labelColumns",
    ),
    Rule(
        "spec.dataset",
        "!has(self.labelColumns) || !has(self.columns) || !has(self.columns.label)",
        "names the labels, and columns.label does too: leave one of the two out",
        field=".labelColumns",
    ),
    Rule(
        "spec.dataset.labelColumns",
        "self.all(c, self.exists_one(d, d == c))",
        "one column is there twice: name each label once",
    ),
    Rule(
        "spec.dataset",
        "!has(self.labelColumns) || !has(self.columns) || "
        "!((has(self.columns.text) ? self.columns.text : 'text') in self.labelColumns || "
        "has(self.columns.textPair) && self.columns.textPair in self.labelColumns)",
        "one column has two roles: the text is no label",
        field=".labelColumns",
    ),
)

PREPROCESS = (
    *(
        _only_for(
            f".preprocessing.{field}",
            tasks,
            f"has(self.preprocessing) && has(self.preprocessing.{field})",
            ADVICE.get(field, LEAVE_OUT),
        )
        for field, tasks in PREPROCESSING.items()
    ),
    Rule(
        "spec.preprocessing",
        "!has(self.stride) || !has(self.maxLength) || self.stride < self.maxLength",
        "is not below maxLength, so that no window would ever move on: lower it, or raise maxLength",
        "self.stride",
        field=".stride",
    ),
)

LABELS = (
    _only_for(
        ".problemType", [task for task, facts in TASKS.items() if facts.labels_rows], "has(self.problemType)", LEAVE_OUT
    ),
    _only_for(
        ".lossWeights", [task for task, facts in TASKS.items() if facts.labelled], "has(self.lossWeights)", LEAVE_OUT
    ),
    Rule(
        "spec",
        "!has(self.lossWeights) || !has(self.problemType) || self.problemType != 'regression'",
        "has numbers and no classes to weigh: leave it out",
        "self.problemType",
        field=".lossWeights",
    ),
)

_METRIC = "self.trainingArguments.metric_for_best_model"
_GIVES_METRIC = "has(self.trainingArguments) && has(self.trainingArguments.metric_for_best_model)"


def _metrics_of_job(form: str) -> str:
    """Write in CEL on spec the metrics of the job's task: as a list, or as the text of a message (`form`)."""

    def written(task: str, problem: str | None = None) -> str:
        names = list(metrics(task, problem))
        return cel_list(names) if form == "list" else f"'{listed(names, 'or')}'"

    of_tasks = cel_map({task: written(task) for task in TASKS}) + "[self.task]"
    of_problems = "".join(
        f"has(self.problemType) && self.problemType == '{problem}' ? {written(task, problem)} : "
        for task, facts in TASKS.items()
        for problem in facts.of_problem
    )
    return f"({of_problems}{of_tasks})"


METRICS = (
    Rule(
        "spec",
        f"!({_GIVES_METRIC}) || {_metrics_of_job('list')}.exists(m, {_METRIC} == m || {_METRIC} == 'eval_' + m)",
        "is no metric of this task: choose one of",
        _METRIC,
        detail=_metrics_of_job("text"),
        field=".trainingArguments.metric_for_best_model",
    ),
    Rule(
        "spec",
        f"!({_GIVES_METRIC}) || !has(self.trainingArguments.predict_with_generate) || "
        f"self.trainingArguments.predict_with_generate || {_METRIC} in ['loss', 'eval_loss']",
        "is a metric of text that the model writes in evaluations: leave predict_with_generate out, or choose loss",
        _METRIC,
        field=".trainingArguments.metric_for_best_model",
    ),
    *(
        _only_for(
            f".trainingArguments.{name}",
            WRITING,
            f"has(self.trainingArguments) && has(self.trainingArguments.{name})",
            LEAVE_OUT,
        )
        for name in GENERATION_ARGUMENTS
    ),
)

_DEVICES = (
    "has(self.resources) && has(self.resources.limits) && self.resources.limits.exists(k, k.contains('/') && "
    "!k.contains('kubernetes.io/') && string(self.resources.limits[k]) != '0')"
)
METHODS = (
    Rule(
        "spec",
        "!has(self.problemType) || self.problemType != 'regression' || !has(self.trainingArguments) || "
        "!has(self.trainingArguments.label_smoothing_factor) || self.trainingArguments.label_smoothing_factor == 0.0",
        "has numbers and no classes to smooth: leave label_smoothing_factor out",
        "self.problemType",
        field=".trainingArguments.label_smoothing_factor",
    ),
    Rule(
        "spec",
        "!has(self.quantization) || has(self.peft)",
        "weights in 4 bits can't be trained, an adapter on them can: give peft too, such as peft: {r: 16}",
        field=".quantization",
    ),
    Rule(
        "spec",
        f"!has(self.quantization) || {_DEVICES} || has(self.template)",  # a template may have a ResourceClaim
        "needs a CUDA device: ask for one in resources.limits, such as nvidia.com/gpu: 1, or leave quantization out",
        field=".quantization",
    ),
    Rule(
        "spec.peft.targetModules",
        "!('all-linear' in self) || size(self) == 1",
        "all-linear stands for all of them: leave the other names out",
    ),
    Rule(
        "spec",
        f"!has(self.earlyStopping) || {EVALUATES}",
        "needs evaluations to look at: set trainingArguments.eval_strategy to epoch or steps",
        field=".earlyStopping",
    ),
)

RULES = of_tasks((*COLUMNS, *DISTINCT, *LABEL_COLUMNS, *PREPROCESS, *LABELS, *METRICS, *METHODS))
