"""Good and bad FineTuneJobs with a program of the user's own."""

from __future__ import annotations

from typing import Any

from tests.support.spec_case import Case, Patch

SCRIPT: Patch = {"task": None, "model": None, "dataset": None, "script.path": "/code/train.py"}
"""A job with a script in place of a task."""
CODE: Patch = {"task": None, "model": None, "dataset": None, "script.configMap": {"name": "code", "key": "train.py"}}
MODULE: Patch = {"task": None, "model": None, "dataset": None, "script.module": "trl.scripts.sft"}
ACCELERATE: Patch = {**SCRIPT, "script.launcher": "accelerate"}
_TOKEN = f"hf_{'a' * 34}"
_DATA: Patch = {**SCRIPT, "dataset": {"name": "imdb"}}


def _task_field(field: str, value: Any) -> Case:
    return Case(
        f"script-and-{field}",
        {field: value, "trainingArguments.eval_strategy": "epoch"} if field == "earlyStopping" else {field: value},
        {**SCRIPT, field: value},
        f"spec.{field}",
        "is read by tasks alone: give it to your program in script.args, or leave it out",
    )


SCRIPT_CASES = (
    Case("task-and-script", SCRIPT, {"script": {"path": "/a.py"}}, "spec", "give exactly one of task"),
    Case("neither-task-nor-script", {}, {"task": None}, "spec", "give exactly one of task"),
    *(
        Case(f"task-without-{field}", {}, {field: None}, f"spec.{field}", "is what a task works on: give")
        for field in ("model", "dataset")
    ),
    *(
        _task_field(field, value)
        for field, value in {
            "problemType": "regression",
            "preprocessing": {"maxLength": 8},
            "trainingArguments": {"learning_rate": 0.1},
            "peft": {"r": 4},
            "earlyStopping": {"patience": 2},
            "lossWeights": "balanced",
            "checkpointIntervalSeconds": 60,
        }.items()
    ),
    Case(
        "script-and-quantization",
        {"peft": {}, "quantization": {"bits": 4}, "resources.limits": {"nvidia.com/gpu": 1}},
        {**SCRIPT, "quantization": {"bits": 4}},
        "spec.quantization",
        "is read by tasks alone",
    ),
    *(
        Case(
            f"script-and-dataset-{field}",
            _DATA,
            {**SCRIPT, "dataset": {"name": "imdb", field: value}},
            f"spec.dataset.{field}",
            "is read by tasks alone",
        )
        for field, value in {
            "splits": {"train": "train"},
            "columns": {"text": "a"},
            "labelColumns": ["a", "b"],
            "maxSamples": {"train": 1},
            "validationFraction": 0.1,
            "streaming": True,
        }.items()
    ),
    Case(
        "script-and-dataset-field",
        {**SCRIPT, "dataset": {"files": {"train": ["/data/a.json"]}}},
        {**SCRIPT, "dataset": {"files": {"train": ["/data/a.json"]}, "field": "rows"}},
        "spec.dataset.field",
        "is read by tasks alone",
    ),
    Case(
        "script-python-processes",
        {**SCRIPT, "script.launcher": "python", "processesPerNode": 1},
        {**SCRIPT, "script.launcher": "python", "processesPerNode": 2},
        "spec.processesPerNode",
        '"2" is more than the launcher python starts',
    ),
    Case(
        "tpu-for-a-script-alone",
        {**SCRIPT, "script.launcher": "python", "resources.limits": {"google.com/tpu": 4}},
        {"resources.limits": {"google.com/tpu": 4}},
        "spec.resources.limits",
        "is no device that tasks run on",
    ),
    Case(
        "script-no-source",
        MODULE,
        {**MODULE, "script.module": None, "script.args": []},
        "spec.script",
        "exactly one of",
    ),
    Case("script-two-sources", CODE, {**CODE, "script.path": "/a.py"}, "spec.script", "give exactly one of configMap"),
    Case(
        "script-path-up",
        {**SCRIPT, "script.path": "/code/..train.py"},
        {**SCRIPT, "script.path": "/code/../train.py"},
        "spec.script.path",
        "must be an absolute path without",
    ),
    *(
        Case(
            f"script-{field}-of-torchrun",
            {**ACCELERATE, f"script.{field}": value},
            {**SCRIPT, f"script.{field}": value},
            f"spec.script.{field}",
            "only means something for launcher accelerate",
        )
        for field, value in (("accelerateConfig", {"mixed_precision": "bf16"}), ("preflight", True))
    ),
    *(
        Case(
            f"script-output-{name}",
            {**SCRIPT, "script.outputs": {"model": "final/..best"}},
            {**SCRIPT, "script.outputs": {"model": bad}},
            "spec.script.outputs.model",
            "must be a path below OUTPUT_DIR",
        )
        for name, bad in (("up", "a/../../b"), ("absolute", "/output"))
    ),
    Case(
        "script-pattern",
        {**SCRIPT, "script.progressPattern": "step (?P<step>[0-9]+)"},
        {**SCRIPT, "script.progressPattern": "step [0-9]+"},
        "spec.script.progressPattern",
        "needs a group named step",
    ),
    Case(
        "script-requirement-option",
        {**SCRIPT, "script.requirements": ["trl==0.24.0", "a @ https://example.com/a.whl"]},
        {**SCRIPT, "script.requirements": ["-r requirements.txt"]},
        "spec.script.requirements[0]",
        "must name a package",
    ),
    *(
        Case(
            f"script-argument-{name}",
            {**SCRIPT, "script.args": [good]},
            {**SCRIPT, "script.args": [bad]},
            "spec.script.args[0]",
            "is about publishing, and a pod that trains reaches no Hub",
        )
        for name, good, bad in (
            ("push", "push_to_hub", "--push_to_hub"),
            ("push-true", "--push=True", "--push_to_hub=True"),
            ("token", "--hubert", "--hub_token=secret"),
            ("repository", "hub_model_id", "--hub_model_id"),
        )
    ),
    Case(
        "script-output-dir",
        {**SCRIPT, "script.args": ["--output_dir", "$(OUTPUT_DIR)/run"]},
        {**SCRIPT, "script.args": ["--output_dir", "/results"]},
        "spec.script.args",
        "--output_dir leads to another place than the job's volume",
    ),
    Case(
        "script-token",
        {**SCRIPT, "script.args": ["--name=hf_model"]},
        {**SCRIPT, "script.args": [f"--auth={_TOKEN}"]},
        "spec.script.args[0]",
        "holds what looks like an access token",
    ),
    Case(
        "env-value-is-token",
        {"env": [{"name": "MY", "value": "hf_transfer"}]},
        {"env": [{"name": "MY", "value": _TOKEN}]},
        "spec.env[0].value",
        "holds what looks like an access token",
    ),
    Case(
        "script-env",
        {**SCRIPT, "env": [{"name": "MY_OUTPUT_DIR", "value": "$(OUTPUT_DIR)"}]},
        {**SCRIPT, "env": [{"name": "OUTPUT_DIR", "value": "/results"}]},
        "spec.env",
        "are set by the system: leave them out",
    ),
)
