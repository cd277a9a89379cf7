"""Options of torchrun and of `accelerate launch`, which end where the program begins. Knows nothing of what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from finetune_operator.cli.command_errors import CommandError
from finetune_operator.cli.init.secret_words import shown


@dataclass(frozen=True)
class OptionTable:
    """The options of a launcher, with underscores."""

    launcher: str
    flags: frozenset[str]
    """Options without a value."""
    valued: frozenset[str]
    families: tuple[str, ...] = ()
    """Beginnings of names of further options with a value."""
    short: Mapping[str, str] = field(default_factory=dict)
    """Letter -> name."""

    def resolve(self, option: str) -> str:
        """Return the name of an option as it was written: with hyphens, as one letter, or abbreviated. Raise CommandError."""
        name = option.lstrip("-").replace("-", "_")
        if not option.startswith("--"):
            name = self.short.get(name, name)
        known = self.flags | self.valued
        if name in known or name.startswith(self.families or ("\0",)):
            return name
        matches = sorted(other for other in known if name and other.startswith(name))
        if len(matches) != 1:
            raise CommandError(
                f"{shown(option)}: no option of {self.launcher} that is known here"
                + (f" (is it one of {', '.join(f'--{match}' for match in matches)}?)" if matches else "")
                + "; options of the program come after the program"
            )
        return matches[0]


@dataclass(frozen=True)
class LauncherOptions:
    values: Mapping[str, str]
    """Name -> value; empty for a flag."""
    written: Mapping[str, str]
    """Name -> the option as it was written."""
    rest: tuple[str, ...]
    """The program and its arguments."""


def split(words: Sequence[str], table: OptionTable) -> LauncherOptions:
    """Separate the launcher's options from the program and its arguments. Raise CommandError for an option that is not known."""
    values: dict[str, str] = {}
    written: dict[str, str] = {}
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        option, separator, value = word.partition("=")
        name = table.resolve(option)
        if name in table.flags:
            value = ""
        elif not separator:
            if not rest:
                raise CommandError(f"{option}: a value is missing")
            value = rest.pop(0)
        values[name], written[name] = value, option
    return LauncherOptions(values, written, tuple(rest))


TORCHRUN = OptionTable(
    "torchrun",
    flags=frozenset(
        (
            *("standalone", "module", "no_python", "run_path", "use_env", "virtual_local_rank"),
            *("print_completion", "help"),
        )
    ),
    valued=frozenset(
        (
            *("nnodes", "nproc_per_node", "node_rank", "master_addr", "master_port", "local_addr"),
            *("rdzv_backend", "rdzv_endpoint", "rdzv_id", "rdzv_conf", "max_restarts", "monitor_interval"),
            *("start_method", "event_log_handler", "role", "log_dir", "redirects", "tee", "log_line_prefix_template"),
            *("local_ranks_filter", "duplicate_stdout_filters", "duplicate_stderr_filters", "logs_specs"),
            *("numa_binding", "signals_to_handle", "shutdown_timeout"),
        )
    ),
    short={"m": "module", "r": "redirects", "t": "tee", "h": "help"},
)

ACCELERATE = OptionTable(
    "accelerate launch",
    flags=frozenset(
        (
            *("quiet", "cpu", "multi_gpu", "tpu", "enable_cpu_affinity", "debug", "help"),
            *("dynamo_use_fullgraph", "dynamo_use_dynamic", "dynamo_use_regional_compilation"),
            *("use_deepspeed", "use_fsdp", "use_parallelism_config", "use_megatron_lm", "use_xpu", "use_mps_device"),
            *("same_network", "module", "no_python", "tpu_cluster", "no_tpu_cluster", "tpu_use_sudo"),
            *("downcast_bf16", "fp8_use_autocast_during_eval"),
        )
    ),
    valued=frozenset(
        (
            *("config_file", "mixed_precision", "num_processes", "num_machines", "num_cpu_threads_per_process"),
            *("gpu_ids", "machine_rank", "main_process_ip", "main_process_port", "main_training_function"),
            *("tee", "log_dir", "role", "rdzv_backend", "rdzv_conf", "max_restarts", "monitor_interval", "vm", "env"),
            *("zero_stage", "offload_optimizer_device", "offload_param_device", "offload_optimizer_nvme_path"),
            *("offload_param_nvme_path", "gradient_accumulation_steps", "gradient_clipping", "zero3_init_flag"),
            *("zero3_save_16bit_model", "aws_access_key_id", "aws_secret_access_key", "mpirun_hostfile", "mpirun_ccl"),
        )
    ),
    families=("dynamo_", "deepspeed_", "fsdp_", "megatron_lm_", "fp8_", "parallelism_config_"),
    short={"m": "module", "q": "quiet", "t": "tee", "h": "help"},
)
