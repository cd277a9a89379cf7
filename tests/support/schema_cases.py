"""Good and bad specs made from the schema: one for each type, enum, bound, pattern and required field."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from pydantic.alias_generators import to_camel

from finetune_operator.api import crd
from finetune_operator.api.rules.tasks import GENERATION_ARGUMENTS
from finetune_operator.api.structural import INT_OR_STRING, PRESERVE_UNKNOWN, Schema
from finetune_operator.cli.validate import validate
from finetune_trainer.contract.task_facts import TASKS, metrics
from tests.support.spec_cases import Case, Patch, manifest
from tests.support.spec_cases_scripts import ACCELERATE, CODE, MODULE, SCRIPT

_EVALUATED = {"trainingArguments.eval_strategy": "epoch"}
_SECRET = {"name": "s", "key": "k"}
_FILES = {"dataset.name": None, "dataset.files": {"train": ["/data/a.csv"], "validation": ["/data/b.csv"]}}

SURROUNDINGS: dict[str, Patch] = {
    # Beginning of a path -> fields that a good spec then needs.
    "dataset.files": _FILES,
    "dataset.field": _FILES,
    "dataset.labelColumns": {"problemType": "multi_label_classification"},
    "dataset.streaming": {"dataset.maxSamples": {"train": 100}},
    "dataset.splits.validation": {},
    "preprocessing.maxSourceLength": {"task": "summarization"},
    "preprocessing.maxTargetLength": {"task": "summarization"},
    "preprocessing.sourcePrefix": {"task": "summarization"},
    "preprocessing.sourceLanguage": {"task": "translation"},
    "preprocessing.targetLanguage": {"task": "translation"},
    "preprocessing.stride": {"task": "question-answering"},
    "preprocessing.packing": {"task": "text-generation"},
    "preprocessing.wholeWordMask": {"task": "fill-mask"},
    "preprocessing.maskProbability": {"task": "fill-mask"},
    "quantization": {"peft": {}, "resources.limits": {"nvidia.com/gpu": 1}},
    "earlyStopping": _EVALUATED,
    **{
        f"dataset.columns.{to_camel(role)}": {"task": task}
        for task, facts in reversed(list(TASKS.items()))
        for role in facts.roles
    },
    "dataset.columns.prompt": {"task": "text-generation", "dataset.columns.completion": "c"},
    "dataset.columns.completion": {"task": "text-generation", "dataset.columns.prompt": "p"},
    "dataset.columns.tools": {"task": "text-generation", "dataset.columns.messages": "m"},
    "storage.claimName": {"storage.size": None},
    "env[]": {"env": [{"name": "A", "value": "1"}]},
    "env[].valueFrom": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": _SECRET}}]},
    "env[].valueFrom.configMapKeyRef": {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": _SECRET}}]},
    "volumes[]": {"volumes": [{"name": "data", "mountPath": "/data", "claimName": "c"}]},
    "volumes[].configMap": {"volumes": [{"name": "data", "mountPath": "/data"}]},
    "volumes[].secret": {"volumes": [{"name": "data", "mountPath": "/data"}]},
    "script": SCRIPT,
    "script.configMap": CODE,
    "script.module": MODULE,
    "script.accelerateConfig": ACCELERATE,
    "script.preflight": ACCELERATE,
    "hub.tokenSecretRef": {"hub.tokenSecretRef": _SECRET},
    "publish": {"hub.tokenSecretRef": _SECRET, "publish.repoId": "me/x"},
    "trainingArguments": {"trainingArguments.dataloader_num_workers": 1, **_EVALUATED},
    "trainingArguments.dataloader_num_workers": _EVALUATED,
    "trainingArguments.evaluation_strategy": {},
    "trainingArguments.eval_strategy": {},
    **{f"trainingArguments.{name}": {"task": "summarization"} for name in GENERATION_ARGUMENTS},
    "trainingArguments.save_strategy": {"trainingArguments.metric_for_best_model": "f1", **_EVALUATED},
}
SCHEDULERS: dict[str, dict[str, Any]] = {
    # Scheduler -> options that it needs.
    "cosine_with_min_lr": {"min_lr": 0.1},
    "cosine_warmup_with_min_lr": {"min_lr": 0.1},
    "warmup_stable_decay": {"num_decay_steps": 1},
}
USUAL_OBJECTS: dict[str, Any] = {
    "dataset": {"name": "yelp_review_full"},
    "storage": {"size": "1Gi"},
    "script": {"path": "/code/train.py"},
    "env[]": {"name": "A", "value": "1"},
    "env[].valueFrom": {"secretKeyRef": _SECRET},
    "volumes[]": {"name": "data", "mountPath": "/data", "claimName": "c"},
}
WRONG_TYPES: dict[str, Any] = {
    "object": "a word",
    "array": "a word",
    "string": 1,
    "boolean": "true",
    "integer": "1",
    "number": "5e-5",
}


def schema_cases() -> Iterator[Case]:
    """Return every case that follows from the schema of spec."""
    spec: Schema = crd.schema()["properties"]["spec"]
    for name, schema in spec["properties"].items():
        yield from _cases(schema, name)
    for name in spec["required"]:
        yield Case(f"{name}-required", {}, {name: None}, f"spec.{name}", "Required value")


def _cases(schema: Schema, path: str) -> Iterator[Case]:
    field = f"spec.{path.replace('[]', '[0]')}"

    def case(kind: str, good: Any, bad: Any, message: str) -> Case:
        return Case(f"{path}-{kind}", good_patch(path, good), patch(path, bad), field, message)

    if INT_OR_STRING in schema:
        yield case("type", usual_value(schema, path), True, "must be of type integer,string")
        yield case("length", "1" * 19 + "." + "1" * 12, "1" * 33, "may not be more than 32 bytes")
        return
    yield case("type", usual_value(schema, path), WRONG_TYPES[schema["type"]], f"must be of type {schema['type']}")
    for choice in schema.get("enum", ()):
        yield case(f"enum-{choice}", choice, "nonsense" if isinstance(choice, str) else 99, "supported values")
    yield from (case(*bound) for bound in (*_bounds(schema), *_lengths(schema, path), *_counts(schema, path)))
    for name in schema.get("required", ()):
        whole = usual_value(schema, path)
        without = {key: value for key, value in whole.items() if key != name}
        yield Case(
            f"{path}.{name}-required", good_patch(path, whole), patch(path, without), f"{field}.{name}", "Required"
        )
    for name, child in schema.get("properties", {}).items():
        yield from _cases(child, f"{path}.{name}")
    if "items" in schema:
        yield from _cases(schema["items"], f"{path}[]")


def _bounds(schema: Schema) -> Iterator[tuple[str, Any, Any, str]]:
    """Yield kind, good value, bad value and message for each bound of a number."""
    step = 1 if schema["type"] == "integer" else 0.001
    for kind, sign, word in (("minimum", 1, "greater than"), ("maximum", -1, "less than")):
        if kind in schema:
            exclusive = schema.get(f"exclusive{kind.capitalize()}", False)
            bound = schema[kind]
            good, bad = (bound + sign * step, bound) if exclusive else (bound, bound - sign * step)
            yield kind, good, bad, f"should be {word} {'' if exclusive else 'or equal to '}{int(bound)}"


def _lengths(schema: Schema, path: str) -> Iterator[tuple[str, Any, Any, str]]:
    if schema["type"] != "string":
        return
    if "maxLength" in schema:
        limit = schema["maxLength"]
        yield "longest", _text(path, limit), "a" * (limit + 1), f"may not be more than {limit} bytes"
    if "minLength" in schema:
        yield "shortest", _text(path, schema["minLength"]), "", "should be at least 1 chars long"
    if "pattern" in schema:
        yield "pattern", _text(path, 8), "not good!", "should match"


def _counts(schema: Schema, path: str) -> Iterator[tuple[str, Any, Any, str]]:
    if "maxItems" in schema:
        limit = schema["maxItems"]
        yield "most", _items(path, limit), _items(path, limit + 1), f"must have at most {limit} items"
    if "minItems" in schema:
        yield "least", _items(path, schema["minItems"]), [], "should have at least 1 items"
    if "maxProperties" in schema and "additionalProperties" in schema:
        limit = schema["maxProperties"]
        yield "most", _resources(path, limit), _resources(path, limit + 1), f"must have at most {limit} items"


def usual_value(schema: Schema, path: str) -> Any:
    """Return some good value."""
    if INT_OR_STRING in schema:
        return 1
    match schema["type"]:
        case "object":
            if schema.get(PRESERVE_UNKNOWN):
                return {}
            names = schema.get("required", ())
            return USUAL_OBJECTS.get(path) or {
                name: usual_value(schema["properties"][name], f"{path}.{name}") for name in names
            }
        case "array":
            return _items(path, 1)
        case "string":
            return schema["enum"][-1] if "enum" in schema else _text(path, 8)
        case "boolean":
            return True
        case _ if "enum" in schema:
            return schema["enum"][-1]
        case _:
            return next((good for kind, good, _, _ in _bounds(schema) if kind == "minimum"), 1)


def other_value(schema: Schema, path: str) -> Any:
    """Return a good value that is not the usual one; the usual one where there is no other."""
    usual = usual_value(schema, path)
    if INT_OR_STRING in schema:
        return usual + 1
    if "enum" in schema:
        return schema["enum"][0]
    match schema["type"]:
        case "boolean":
            return not usual
        case "string":
            return _text(path, 12)
        case "integer":
            return usual + 1
        case "number":
            return usual + 0.5
        case _:
            return usual


def _text(path: str, length: int) -> str:
    """Return a good string of this length for a field, of the kind that fits the field."""
    two = "a" * (length // 2) + "/" + "a" * (length - length // 2 - 1)
    pattern, option = "(?P<step>.)".ljust(length, "a"), "--".ljust(length, "a")
    kinds = (
        "a" * length,
        two,
        pattern,
        option,
        "/" + "a" * (length - 1),
        "https://a".ljust(length, "a"),
        "auto",
        "1" * length,
    )
    accepted = [kind for kind in kinds if not validate(manifest(good_patch(path, kind)))]
    assert accepted, (path, length, validate(manifest(good_patch(path, kinds[0]))))
    return accepted[0]


def _items(path: str, count: int) -> list[Any]:
    match path:
        case "env":
            return [{"name": f"A{number}", "value": ""} for number in range(count)]
        case "volumes":
            return [{"name": f"v{n}", "mountPath": f"/data/{n}", "claimName": "c"} for n in range(count)]
        case _:
            return [f"/data/{number}.csv" for number in range(count)]


def _resources(path: str, count: int) -> dict[str, int]:
    """Return resources: devices, or pages of many sizes for the steps that prepare and publish."""
    name = "hugepages-{}Mi" if path.startswith("helperResources") else "example.com/device{}"
    return {name.format(number): 1 for number in range(count)}


def good_patch(path: str, value: Any) -> Patch:
    """Return a patch that sets a field, with the other fields that a good spec then needs."""
    if path.startswith("resources.requests") and isinstance(value, dict):
        return {path: value, "resources.limits": value}
    if path == "trainingArguments.metric_for_best_model":
        return _metric_patch(path, value)
    if path == "trainingArguments.lr_scheduler_type":
        return {**_EVALUATED, path: value, "trainingArguments.lr_scheduler_kwargs": SCHEDULERS.get(value, {})}
    if path.startswith("trainingArguments.lr_scheduler_kwargs."):
        return _option_patch(path, value)
    return patch(path, value)


def _metric_patch(path: str, metric: str) -> Patch:
    """Return a patch that names a metric, with the first task that has it."""
    kinds = ((task, problem) for task, facts in TASKS.items() for problem in (None, *facts.of_problem))
    task, problem = next(kind for kind in kinds if metric.removeprefix("eval_") in metrics(*kind))
    return {"task": task, **({"problemType": problem} if problem else {}), path: metric}


def _option_patch(path: str, value: Any) -> Patch:
    """Return a patch that sets an option of a scheduler, with the first scheduler that takes it."""
    schedulers = crd.schema()["properties"]["spec"]["properties"]["trainingArguments"]["properties"][
        "lr_scheduler_type"
    ]
    option = path.rpartition(".")[2]
    for scheduler in schedulers["enum"]:
        needed = {} if option == "min_lr_rate" else SCHEDULERS.get(scheduler, {})
        options = {**needed, option: value}
        patch = {
            **_EVALUATED,
            "trainingArguments.lr_scheduler_type": scheduler,
            "trainingArguments.lr_scheduler_kwargs": options,
        }
        if not validate(manifest(patch)):
            return patch
    raise AssertionError(f"no scheduler takes {option}={value}")


def patch(path: str, value: Any) -> Patch:
    """Return a patch that sets a field, with the fields around it that it needs; `[]` is the first item of a list."""
    around: Patch = {}
    for beginning, surroundings in SURROUNDINGS.items():
        if path == beginning or path.startswith((f"{beginning}.", f"{beginning}[")):
            around = surroundings
    around = deepcopy(around)
    if "[]" not in path:
        return {**around, path: value}
    holder, _, rest = path.partition("[]")
    if not rest:
        return {**around, holder: [value]}
    items = around.get(holder, [{}])
    _set(items[0], rest.removeprefix(".").split("."), value)
    return {**around, holder: items}


def _set(target: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        target = target.setdefault(name, {})
    target[path[-1]] = value
