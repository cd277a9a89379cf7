"""What `accelerate launch` was told, by options or by a file, as `script.accelerateConfig` has it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune_operator.cli import manifest_files
from finetune_operator.cli.command_errors import CommandError
from finetune_operator.cli.init.remarks import Remark

UNDERSTOOD = frozenset(
    (
        *("config_file", "mixed_precision", "num_processes", "num_machines", "cpu", "multi_gpu", "module"),
        *("use_deepspeed", "use_fsdp", "use_parallelism_config", "use_megatron_lm"),
        *("enable_cpu_affinity", "debug", "downcast_bf16"),
    )
)
"""Options that the configuration, or the size of the job, says."""

_SECTIONS = {
    # Beginning of an option -> the section that it lies in, and whether its name there is without the beginning.
    "fsdp_": "fsdp_config",
    "dynamo_": "dynamo_config",
    "megatron_lm_": "megatron_lm_config",
    "parallelism_config_": "parallelism_config",
    "fp8_": "fp8_config",
    "deepspeed_": "deepspeed_config",
    "zero": "deepspeed_config",
    "offload_": "deepspeed_config",
    "gradient_": "deepspeed_config",
}
_KINDS = {"use_deepspeed": "DEEPSPEED", "use_fsdp": "FSDP", "use_megatron_lm": "MEGATRON_LM"}
_OF_THE_JOB = (
    *("compute_environment", "num_machines", "num_processes", "machine_rank", "main_process_ip", "main_process_port"),
    *("rdzv_backend", "same_network", "max_restarts", "gpu_ids", "main_training_function"),
    *("tpu_name", "tpu_zone", "tpu_env", "tpu_use_cluster", "tpu_use_sudo", "tpu_vm", "command_file", "commands"),
)
_TOLD = ("machine_rank", "main_process_ip", "main_process_port", "gpu_ids")
"""Keys of which a user would ask where they have gone."""


@dataclass(frozen=True)
class ConfigFile:
    """A configuration as `accelerate config` writes it, apart from what the job decides."""

    config: Mapping[str, Any]
    nodes: int | None
    total_processes: int | None
    on_cpu: bool
    remarks: tuple[Remark, ...]


def section_of(option: str) -> str:
    """Return the section of the configuration that an option belongs to; empty for none."""
    return next((section for begin, section in _SECTIONS.items() if option.startswith(begin)), "")


def of_options(options: Mapping[str, str]) -> dict[str, Any]:
    """Return the configuration that options of `accelerate launch` amount to."""
    config: dict[str, Any] = {}
    for option, kind in _KINDS.items():
        if option in options:
            config["distributed_type"] = kind
    if "mixed_precision" in options:
        config["mixed_precision"] = options["mixed_precision"]
    if "cpu" in options:
        config["use_cpu"] = True
    for flag in ("enable_cpu_affinity", "debug", "downcast_bf16"):
        if flag in options:
            config[flag] = True
    for option, value in options.items():
        section = section_of(option)
        if section:
            config.setdefault(section, {})[option] = _typed(value) if value else True
    return config


def merged(file: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration in which options have precedence over the file, as on the command line."""
    config = dict(file)
    for key, value in options.items():
        both = isinstance(value, dict) and isinstance(config.get(key), dict)
        config[key] = {**config[key], **value} if both else value
    return config


def of_file(text: str, source: str) -> ConfigFile:
    """Read the text of a configuration file. Raise CommandError where it is none."""
    documents = manifest_files.load(text, source)
    if len(documents) != 1:
        raise CommandError(f"{source}: holds {len(documents)} documents; a configuration of accelerate is one")
    (document,) = documents
    if (
        str(document.get("compute_environment", "LOCAL_MACHINE")) != "LOCAL_MACHINE"
        or "tpu" in str(document.get("distributed_type", "")).lower()
    ):
        raise CommandError(f"{source}: a configuration for another environment than machines of one's own")
    try:
        # Anchors of YAML become plain copies.
        config = json.loads(json.dumps({key: value for key, value in document.items() if key not in _OF_THE_JOB}))
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{source}: can't be written as JSON: {error}") from error
    keys_of_job = [key for key in _TOLD if document.get(key) not in (None, "all", 0)]
    if str(config.get("distributed_type")) in ("NO", "MULTI_GPU", "MULTI_CPU"):
        del config["distributed_type"]  # follows from the number of processes
    return ConfigFile(
        config={key: value for key, value in config.items() if value is not None and value != {}},
        nodes=_count(document.get("num_machines")),
        total_processes=_count(document.get("num_processes")),
        on_cpu=document.get("use_cpu") is True or document.get("distributed_type") == "MULTI_CPU",
        remarks=tuple(
            Remark("the job decides it, not accelerate's configuration", f"{key} of {source}") for key in keys_of_job
        ),
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 1 else None


def _typed(value: str) -> str | int | float | bool:
    """Return a value as a configuration file would have it."""
    try:
        typed = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return typed if isinstance(typed, int | float | bool) and typed == typed and abs(typed) < 2**53 else value
