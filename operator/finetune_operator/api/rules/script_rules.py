"""Rules of `spec.script`: what excludes it, what it excludes, and arguments that are the system's."""

from __future__ import annotations

from finetune_operator.api.rules.rule import Rule, cel_list, exactly_one
from finetune_trainer.contract.task_facts import TASKS

AT = "spec.script"
_OF_TASKS = (
    "problemType",
    "preprocessing",
    "trainingArguments",
    "peft",
    "quantization",
    "earlyStopping",
    "lossWeights",
    "checkpointIntervalSeconds",
)
"""Fields of spec that a task alone reads."""
_OF_TASKS_DATA = ("splits", "columns", "labelColumns", "maxSamples", "validationFraction", "streaming", "field")
"""Fields of `dataset` that a task alone reads."""
TOKEN_PATTERN = "hf_[A-Za-z0-9]{30,}"
"""Access tokens of the Hub."""

KIND = (
    Rule(
        "spec",
        exactly_one("task", "script"),
        f"give exactly one of task ({', '.join(TASKS)}) and script (your own program)",
    ),
    *(
        Rule(
            "spec",
            f"!has(self.task) || has(self.{field})",
            f"is what a task works on: give {field}",
            "self.task",
            field=f".{field}",
            reason="FieldValueRequired",
        )
        for field in ("model", "dataset")
    ),
    *(
        Rule(
            "spec",
            f"!has(self.script) || !has(self.{field})",
            "is read by tasks alone: give it to your program in script.args, or leave it out",
            field=f".{field}",
            reason="FieldValueForbidden",
        )
        for field in _OF_TASKS
    ),
    *(
        Rule(
            "spec",
            f"!has(self.script) || !has(self.dataset) || !has(self.dataset.{field})",
            "is read by tasks alone: give it to your program in script.args, or leave it out",
            field=f".dataset.{field}",
            reason="FieldValueForbidden",
        )
        for field in _OF_TASKS_DATA
    ),
    Rule(
        "spec",
        "!has(self.script) || !has(self.script.launcher) || self.script.launcher != 'python' || "
        "!has(self.processesPerNode) || self.processesPerNode == 1",
        "is more than the launcher python starts, which is one process a node: leave it out, or choose torchrun",
        "self.processesPerNode",
        field=".processesPerNode",
    ),
)

_ACCELERATE = "has(self.launcher) && self.launcher == 'accelerate'"
SOURCE = (
    Rule(AT, exactly_one("configMap", "path", "module"), "give exactly one of configMap, path and module"),
    Rule(
        f"{AT}.path",
        "!self.matches('(^|/)[.][.]?(/|$)')",
        "must be an absolute path without `..` and `.`",
        "self",
    ),
    *(
        Rule(
            AT,
            f"!has(self.{field}) || {_ACCELERATE}",
            "only means something for launcher accelerate: set launcher, or leave it out",
            field=f".{field}",
        )
        for field in ("accelerateConfig", "preflight")
    ),
    Rule(
        f"{AT}.outputs.model",
        "!self.startsWith('/') && !self.matches('(^|/)[.][.](/|$)')",
        "must be a path below OUTPUT_DIR, without `..`",
        "self",
    ),
    Rule(
        f"{AT}.progressPattern",
        "self.contains('(?P<step>')",
        "needs a group named step: (?P<step>[0-9]+)",
        "self",
    ),
    Rule(
        f"{AT}.requirements[]",
        "!self.startsWith('-')",
        "must name a package, such as trl==0.24.0: options and files of requirements have no place here",
        "self",
    ),
)

ARGUMENTS = (
    Rule(
        f"{AT}.args[]",
        "!self.startsWith('--push_to_hub') && !self.startsWith('--hub_')",
        "is about publishing, and a pod that trains reaches no Hub: name the repository in publish, and the token's Secret in "
        "hub.tokenSecretRef",
        reason="FieldValueForbidden",
    ),
    Rule(
        f"{AT}.args",
        "!self.exists(a, a == '--output_dir' || a.startsWith('--output_dir=')) || "
        "self.exists(a, a.contains('$(OUTPUT_DIR)'))",
        "--output_dir leads to another place than the job's volume, where nothing would be kept: give it $(OUTPUT_DIR)",
    ),
    Rule(
        f"{AT}.args[]",
        f"!self.matches('{TOKEN_PATTERN}')",
        "holds what looks like an access token, and everybody who may read the job would read it: name its Secret in "
        "hub.tokenSecretRef, or in env with valueFrom.secretKeyRef",
        reason="FieldValueForbidden",
    ),
    Rule(
        "spec.env[]",
        f"!has(self.value) || !self.value.matches('{TOKEN_PATTERN}')",
        "holds what looks like an access token, and everybody who may read the job would read it: name its Secret in "
        "hub.tokenSecretRef, or in valueFrom.secretKeyRef",
        field=".value",
        reason="FieldValueForbidden",
    ),
)

ENVIRONMENT = (
    Rule(
        "spec",
        "!has(self.script) || !has(self.env) || "
        f"!self.env.exists(v, v.name in {cel_list(('OUTPUT_DIR', 'CHECKPOINT_DIR', 'RESUME_FROM_CHECKPOINT', 'DATA_DIR', 'NODES'))})",
        "OUTPUT_DIR, CHECKPOINT_DIR, RESUME_FROM_CHECKPOINT, DATA_DIR and NODES are set by the system: leave them out",
        field=".env",
    ),
)

RULES = (*KIND, *SOURCE, *ARGUMENTS, *ENVIRONMENT)
