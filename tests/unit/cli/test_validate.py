"""What `finetune validate` adds to the API server's words: what was meant, and where it belongs."""

from typing import Any

import pytest

from finetune_operator.api import crd
from finetune_operator.api.validation import normalised
from finetune_operator.cli.manifest_files import load
from finetune_operator.cli.validate import is_fine_tune_job, validate, warnings
from finetune_trainer.contract.task_facts import TASKS
from tests.support.spec_cases import manifest

QUOTED_TASKS = ", ".join(f'"{task}"' for task in TASKS)
METRICS = ", ".join(
    f'"{name}"'
    for name in crd.schema()["properties"]["spec"]["properties"]["trainingArguments"]["properties"][
        "metric_for_best_model"
    ]["enum"]
)


def problems(patch: dict[str, Any]) -> list[str]:
    return [str(problem) for problem in validate(manifest(patch))]


@pytest.mark.parametrize(
    ("patch", "line"),
    [
        (
            {"trainingArguments": {"learnin_rate": 1}},
            "spec.trainingArguments.learnin_rate: unknown field: did you mean learning_rate?",
        ),
        (
            {"trainingArguments": {"learningRate": 1}},
            "spec.trainingArguments.learningRate: unknown field: did you mean learning_rate?",
        ),
        ({"learning_rate": 1}, "spec.learning_rate: unknown field: did you mean spec.trainingArguments.learning_rate?"),
        ({"mod": {}}, "spec.mod: unknown field: did you mean model?"),
        (
            {"xyz": {}},
            "spec.xyz: unknown field: there is none in this version; `kubectl explain finetunejob.spec` tells what there is",
        ),
        (
            {"volumes": [{"name": "a", "mountPath": "/x", "claimName": "c", "readonly": True}]},
            "spec.volumes[0].readonly: unknown field: did you mean readOnly?",
        ),
        (
            {"trainingArguments": {"adam_beta": 0.9}},
            "spec.trainingArguments.adam_beta: unknown field: did you mean adam_beta1 or adam_beta2?",
        ),
        ({"dataset.splits": {"trian": "train"}}, "spec.dataset.splits.trian: unknown field: did you mean train?"),
        (
            {"task": "text-clasification"},
            f'spec.task: Unsupported value: "text-clasification": supported values: {QUOTED_TASKS}; '
            'did you mean "text-classification"?',
        ),
        (
            {"trainingArguments": {"metric_for_best_model": "acuracy"}},
            f'spec.trainingArguments.metric_for_best_model: Unsupported value: "acuracy": supported values: {METRICS}; '
            'did you mean "accuracy"?',
        ),
        ({"dataset.column": {}}, "spec.dataset.column: unknown field: did you mean columns?"),
        (
            {"dataset.columns": {"text_column": "review"}},
            "spec.dataset.columns.text_column: unknown field: did you mean text?",
        ),
        ({"lora": {"r": 8}}, "spec.lora: unknown field: did you mean peft?"),
        ({"preprocessing": {"max_length": 8}}, "spec.preprocessing.max_length: unknown field: did you mean maxLength?"),
        (
            {"validationFraction": 0.1},
            "spec.validationFraction: unknown field: did you mean spec.dataset.validationFraction?",
        ),
        (
            {"resources.limits": {"cpu": 0.5}},
            'spec.resources.limits.cpu: Invalid value: "number": spec.resources.limits.cpu in body must be of type '
            'integer,string: "number" (quote it: "0.5")',
        ),
    ],
)
def test_what_was_meant(patch: dict[str, Any], line: str) -> None:
    assert problems(patch) == [line]


def test_an_argument_that_the_system_owns_says_so() -> None:
    (line,) = problems({"trainingArguments": {"output_dir": "/output"}})

    assert line.startswith("spec.trainingArguments.output_dir: unknown field: not offered: ")
    assert "storage" in line


def test_the_stock_save_at_sigterm_is_refused_without_a_promise() -> None:
    (line,) = problems({"trainingArguments": {"enable_jit_checkpoint": True}})

    assert "not offered: nothing saves at SIGTERM yet" in line


def test_no_without_quotes() -> None:
    job = manifest({"trainingArguments": load("eval_strategy: no")[0]})

    (line,) = (str(problem) for problem in validate(job))

    assert 'must be of type string: "boolean" (YAML reads no without quotes as false: write "no")' in line


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("y", 'string: "boolean" (YAML reads y, yes, on and true without quotes as true: write the word in quotes)'),
        (
            "off",
            'string: "boolean" (YAML reads n, no, off and false without quotes as false: write the word in quotes)',
        ),
        ("7", 'string: "integer" (quote it: "7", or as it is written in the manifest)'),
        ("010", 'string: "integer" (quote it: "8", or as it is written in the manifest)'),
        ("0.5", 'string: "number" (quote it: "0.5", or as it is written in the manifest)'),
    ],
)
def test_a_name_that_yaml_reads_as_something_else(word: str, advice: str) -> None:
    job = manifest({"dataset.columns": load(f"label: {word}")[0]})

    (line,) = (str(problem) for problem in validate(job))

    assert line.startswith("spec.dataset.columns.label: Invalid value: ")
    assert line.endswith(advice)


def test_several_problems_at_once() -> None:
    assert len(problems({"nodes": 0, "storage": None, "env": [{"name": "RANK", "value": "1"}]})) == 3


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"apiVersion": "finetune.dev/v1"}, 'apiVersion: Unsupported value: "finetune.dev/v1": supported values: '),
        (
            {"kind": "FinetuneJob"},
            'kind: Unsupported value: "FinetuneJob": supported values: "FineTuneJob"; did you mean',
        ),
        ({"spec": None}, "spec: Required value"),
        ({"spec": []}, 'spec: Invalid value: "array": spec in body must be of type object: "array"'),
        ({"metadata": {}}, "metadata.name: Required value: name or generateName is required"),
        ({"metadata": {"name": "a", "labls": {}}}, "metadata.labls: unknown field: did you mean labels?"),
        ({"metadata": {"name": 7}}, 'metadata.name: Invalid value: "integer"'),
        ({"metadata": {"name": "a", "labels": {"a": 1}}}, 'metadata.labels.a: Invalid value: "integer"'),
        ({"metadata": None}, "metadata.name: Required value"),
        ({"specc": {}}, "specc: unknown field: did you mean spec?"),
        (
            {"metadata": {"name": "a", "labels": {"team": "n l p"}}},
            'metadata.labels: Invalid value: "n l p": a valid label',
        ),
        (
            {"metadata": {"name": "a", "labels": {"a b": ""}}},
            'metadata.labels: Invalid value: "a b": name part must consist',
        ),
        (
            {"metadata": {"name": "a", "labels": {"a/": ""}}},
            'metadata.labels: Invalid value: "a/": name part must be non-em',
        ),
        (
            {"metadata": {"name": "a", "labels": {"A_/b": ""}}},
            'metadata.labels: Invalid value: "A_/b": prefix part a lower',
        ),
        (
            {"metadata": {"name": "a", "labels": {"a/b/c": ""}}},
            'metadata.labels: Invalid value: "a/b/c": a qualified name',
        ),
        ({"metadata": {"name": "a", "annotations": {"a" * 64: ""}}}, 'metadata.annotations: Invalid value: "aaa'),
    ],
)
def test_the_rest_of_the_object(change: dict[str, Any], line: str) -> None:
    problems = [str(problem) for problem in validate({**manifest({}), **change})]

    assert any(problem.startswith(line) for problem in problems), problems


@pytest.mark.parametrize(
    "broken", [None, 1, "x", [], {"env": 1}, {"env": [1]}, {"model": []}, {"dataset": {"files": []}}]
)
def test_nothing_makes_it_fall(broken: Any) -> None:
    assert validate({**manifest({}), "spec": broken}) != ()


def test_null_is_not_given() -> None:
    job = manifest({})
    job["spec"] |= {"image": None, "trainingArguments": {"seed": None}, "template": {"kept": None}}

    assert validate(job) == ()
    assert normalised(job)["spec"].keys() == job["spec"].keys() - {"image"}
    assert normalised(job)["spec"]["template"] == {"kept": None}


def test_status_is_not_looked_at() -> None:
    assert validate({**manifest({}), "status": {"phase": "Nonsense"}}) == ()


def test_older_names_are_warnings() -> None:
    job = manifest({"trainingArguments": {"evaluation_strategy": "epoch"}})

    assert validate(job) == ()
    assert "eval_strategy: epoch" in warnings(job)[0]


def test_other_kinds_are_told_apart() -> None:
    assert is_fine_tune_job(manifest({}))
    assert is_fine_tune_job({**manifest({}), "kind": "FinetuneJob"}), "so that it is told"
    assert is_fine_tune_job({**manifest({}), "apiVersion": "finetune.dev/v1"})
    assert not is_fine_tune_job({"apiVersion": "v1", "kind": "Secret"})
    assert not is_fine_tune_job({"kind": ["FineTuneJob"]})


def test_a_choice_that_is_missing_names_the_choices() -> None:
    assert problems({"task": None}) == [
        f'spec: Invalid value: "object": give exactly one of task ({", ".join(TASKS)}) and script (your own program)'
    ]
