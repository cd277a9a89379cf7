"""Which arguments of a program belong to the system, and what the manifest has in their place. Looks for files, reads none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from finetune_operator.api.rules.fields import RESERVED_ENV, RESERVED_ENV_PREFIXES
from finetune_operator.cli.init import program_files
from finetune_operator.cli.init.argument_words import Argument, escaped, grouped
from finetune_operator.cli.init.program_files import LocalFiles
from finetune_operator.cli.init.program_source import ProgramSource
from finetune_operator.cli.init.remarks import Remark
from finetune_operator.cli.init.secret_words import (
    HUB_TOKEN_OPTIONS,
    is_hub_token,
    is_secret_option,
    is_secret_value,
    shown,
)

OUTPUT = "$(OUTPUT_DIR)"
PUBLISHING = "the job publishes the model itself, once it is trained (spec.publish)"
RESUMING = "the job gives the newest good checkpoint by itself (script.checkpointArgument); to begin at another: spec.resumeFrom"
NO_HUB_TOKEN = "the token comes from a Secret (hub.tokenSecretRef), and only the pods that talk to the Hub see it"

_MODEL_OPTIONS = ("model_name_or_path", "pretrained_model_name_or_path", "model_name")
_DATASET_CONFIG_OPTIONS = ("dataset_config_name", "dataset_config")
_REPOSITORY_MAX = 96
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)?")
_SWITCHES = {
    "overwrite_output_dir": "a job overwrites no output of another, and goes on with its own",
    **dict.fromkeys(("push_to_hub", "hub_private_repo", "hub_always_push"), PUBLISHING),
}
_TAKEN_OUT = {
    **dict.fromkeys(
        ("hub_model_id", "push_to_hub_model_id", "push_to_hub_organization", "hub_strategy", "hub_revision"), PUBLISHING
    ),
    **dict.fromkeys(HUB_TOKEN_OPTIONS, NO_HUB_TOKEN),
    "local_rank": "the launcher tells each process its rank",
    **_SWITCHES,
    "ddp_backend": "the job chooses it by its devices: nccl, or gloo on the CPU",
    "cache_dir": "the job downloads model and data once, to its claim (HF_HOME)",
}


@dataclass
class ProgramArguments:
    """Arguments that stay, and fields of the manifest in place of those that do not."""

    words: list[str] = field(default_factory=list)
    checkpoint_argument: str | None = None
    model: dict[str, str] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    publish: dict[str, Any] | None = None
    needs_hub_token: bool = False
    secret_variables: list[str] = field(default_factory=list)
    """Variables, with values from a Secret, that arguments refer to."""
    files: LocalFiles = field(default_factory=LocalFiles)
    on_cpu: bool = False
    has_output_dir: bool = False
    secrets: list[str] = field(default_factory=list)
    """Values that must be written nowhere."""
    remarks: list[Remark] = field(default_factory=list)


def understand(
    words: tuple[str, ...], source: ProgramSource, folder: Path, job: str, config: list[Argument]
) -> ProgramArguments:
    """Separate the system's arguments from the program's own. `folder` is where the command would run.

    `config` holds files that are named elsewhere than in the arguments.
    """
    groups = grouped(words)
    result = ProgramArguments(files=program_files.find((*groups, *config), folder))
    for group in groups:
        result.words += _kept(group, result)
    _from_the_hub(groups, result, source)
    _publishing(groups, result, job)
    result.remarks += [
        Remark(f"{group.option} {shown(value)} is not on this machine: it must be in the image or on a volume")
        for group in (*groups, *config)
        for value in group.values
        if value not in result.files.paths and program_files.is_missing(group, value)
    ]
    result.remarks += [
        Remark(f"{shown(value)} is not read here: let it have no output_dir, and publish nothing")
        for group in groups
        for value in group.values
        if group.name in ("", "config") and value in result.files.paths and value.endswith((".json", ".yaml", ".yml"))
    ]
    if not result.has_output_dir and source.has_output_option:
        result.words.append(f"--output_dir={OUTPUT}")
        result.remarks.append(Remark(f"added: --output_dir={OUTPUT}, where checkpoints and the model are found"))
    elif not result.has_output_dir:
        result.remarks.append(
            Remark(
                "the program runs in the folder $OUTPUT_DIR: what it writes there is kept, what it writes elsewhere is lost"
            )
        )
    if result.checkpoint_argument is None and source.has_resume_option:
        result.checkpoint_argument = "--resume_from_checkpoint"
    return result


def _kept(argument: Argument, result: ProgramArguments) -> list[str]:
    """Return the words that stay of an argument, and note what takes its place."""
    name, ours = argument.name, list[str]()
    further = argument.further(switch=name in _SWITCHES or (name in HUB_TOKEN_OPTIONS and argument.is_switch))
    if any(map(is_secret_value, (argument.option, *argument.values))) or (is_secret_option(name) and argument.values):
        return _secret(argument, result)
    if name == "output_dir":
        if not result.has_output_dir:
            ours.append(f"{argument.option}={OUTPUT}")
        result.has_output_dir = True
    elif name == "resume_from_checkpoint":
        result.checkpoint_argument = argument.option
        result.remarks.append(Remark(RESUMING, argument.option))
    elif name in HUB_TOKEN_OPTIONS:
        result.needs_hub_token = True
        result.secrets += [] if argument.is_switch else argument.values[:1]
        result.remarks.append(Remark(NO_HUB_TOKEN, argument.option))
    elif name in _TAKEN_OUT:
        result.remarks.append(Remark(_TAKEN_OUT[name], argument.option))
    else:
        result.on_cpu = result.on_cpu or (name in ("no_cuda", "use_cpu", "cpu") and argument.is_on)
        return argument.written(_own(argument.values, result))
    return [*ours, *_own(further, result)]


def _own(values: Iterable[str], result: ProgramArguments) -> list[str]:
    """Return values of the program's own arguments, files of this machine at their path in the pods."""
    return [result.files.in_arguments(value) or escaped(value) for value in values]


def _secret(argument: Argument, result: ProgramArguments) -> list[str]:
    """Return an argument with variables in place of its secrets. A token of the Hub is left out: pods that train reach no Hub."""
    words = (argument.option, *argument.values)
    option = "an argument" if is_secret_value(argument.option) or not argument.option else argument.option
    if any(map(is_hub_token, words)) or is_secret_value(argument.option):
        result.needs_hub_token = True
        result.secrets += filter(is_secret_value, words)
        result.remarks.append(Remark(NO_HUB_TOKEN, option))
        return []
    values = []
    for number, value in enumerate(argument.values):
        if not is_secret_value(value) and not (number == 0 and is_secret_option(argument.name)):
            values += _own([value], result)
            continue
        stem = re.sub("[^A-Z0-9_]", "_", argument.name.upper()) or "ARGUMENT"
        variable = f"{stem}_{number}" if number else stem
        if variable in RESERVED_ENV or variable.startswith(RESERVED_ENV_PREFIXES):
            variable = f"PROGRAM_{variable}"
        result.secrets.append(value)
        result.secret_variables += [] if variable in result.secret_variables else [variable]
        values.append(f"$({variable})")
    result.remarks.append(Remark("a secret comes from a Secret, through a variable of that name (spec.env)", option))
    return argument.written(values)


def _value(groups: Iterable[Argument], *names: str) -> str:
    """Return the value of the first of the options that has one."""
    values = {group.name: group.value for group in groups if not is_secret_value(group.value)}
    return next((values[name] for name in names if values.get(name)), "")


def _publishing(groups: Iterable[Argument], result: ProgramArguments, job: str) -> None:
    """Note where the program would have published its model."""
    switches = {group.name: group.is_on for group in groups}
    repository = _value(groups, "hub_model_id", "push_to_hub_model_id")
    if not switches.get("push_to_hub", bool(repository)):
        return
    owner = _value(groups, "push_to_hub_organization")
    if not repository:  # the Trainer's default
        folder = re.sub(r"[^A-Za-z0-9_.]+|[.]{2,}", "-", PurePosixPath(_value(groups, "output_dir")).name)
        repository = re.sub("--+", "-", folder)[:_REPOSITORY_MAX].strip("-.").removesuffix(".git") or job
    result.publish = {"repoId": f"{owner}/{repository}" if owner and "/" not in repository else repository}
    if switches.get("hub_private_repo"):
        result.publish["private"] = True
    if _value(groups, "hub_revision"):
        result.publish["revision"] = _value(groups, "hub_revision")
    result.needs_hub_token = True


def _from_the_hub(groups: Iterable[Argument], result: ProgramArguments, source: ProgramSource) -> None:
    """Note the model and the dataset that the job is to download, from the arguments or else from the program's text."""
    model = _value(groups, *_MODEL_OPTIONS)
    if result.files.in_pod(model) or model.startswith("/"):
        result.model = {"name": result.files.in_pod(model) or model}
    elif _HUB_NAME.fullmatch(model):
        revision = _value(groups, "model_revision")
        result.model = {"name": model, **({"revision": revision} if revision else {})}
    elif not model:
        names = [name for name in source.models if _HUB_NAME.fullmatch(name)]
        result.model = {"name": names[0]} if len(names) == 1 else {}
        result.remarks += _several("models", names, "model")
    for option in ("tokenizer_name", "config_name"):
        other = _value(groups, option)
        if other and other != model and not result.files.in_pod(other):
            result.remarks.append(
                Remark(f"--{option} {other}: one model is downloaded for a job (spec.model); put this on a volume")
            )

    if result.files.splits:
        result.dataset = {"files": result.files.dataset()}
        return
    dataset = _value(groups, "dataset_name")
    config = _value(groups, *_DATASET_CONFIG_OPTIONS)
    if (
        dataset
        and dataset not in program_files.KINDS_OF_FILES
        and not result.files.in_pod(dataset)
        and _HUB_NAME.fullmatch(dataset)
    ):
        result.dataset = {"name": dataset, **({"config": config} if config else {})}
    elif not dataset and not _value(groups, "train_file"):
        named = [
            names
            for names in source.datasets
            if _HUB_NAME.fullmatch(names[0]) and names[0] not in program_files.KINDS_OF_FILES
        ]
        if len({names[0] for names in named}) == 1:
            name, *configs = named[0]
            config = configs[0] if configs else _value(groups, "task_name") if name.endswith("glue") else ""
            result.dataset = {"name": name, **({"config": config} if config else {})}
        else:
            result.remarks += _several("datasets", sorted({names[0] for names in named}), "dataset")


def _several(what: str, names: list[str], field_name: str) -> list[Remark]:
    if len(names) < 2:
        return []
    return [
        Remark(
            f"the program loads several {what} ({', '.join(names)}): name the one that the job downloads in spec.{field_name}"
        )
    ]
