"""From a command line that is understood, and the program that it names, to a job. Reads files of this machine, writes none."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune_operator.cli.command_errors import CommandError
from finetune_operator.cli.init import (
    accelerate_config,
    command_variables,
    program_arguments,
    program_files,
    program_source,
)
from finetune_operator.cli.init.argument_words import Argument
from finetune_operator.cli.init.command_variables import Environment
from finetune_operator.cli.init.draft import Comments, Draft, checked_name, job_name
from finetune_operator.cli.init.launch_command import NODES_MAX, PROCESSES_MAX, LaunchCommand
from finetune_operator.cli.init.program_arguments import ProgramArguments
from finetune_operator.cli.init.program_files import is_file, is_folder
from finetune_operator.cli.init.program_source import IN_THE_IMAGE, INSTALLED_AS, OTHER_FRAMEWORKS, ProgramSource
from finetune_operator.cli.init.remarks import Remark
from finetune_operator.cli.init.secret_words import shown
from finetune_trainer.contract.script import Launcher

CONFIG_MAX_BYTES = 256 << 10
_REPORTERS = ("wandb", "tensorboard", "mlflow")
_KEY_MAX = 253


@dataclass(frozen=True)
class Program:
    """Where the program of a job comes from."""

    fields: dict[str, Any]
    """`module`, `path` or `configMap` of `spec.script`."""
    files: dict[str, Path]
    """Key of the ConfigMap -> file of this machine."""
    source: ProgramSource
    remarks: tuple[Remark, ...] = ()


def draft_of(command: LaunchCommand, folder: Path, name: str | None) -> Draft:
    """Return the job that does what a command does in `folder`. Raise CommandError where none could."""
    command = _with_config_file(command, folder)
    job = checked_name(name) if name else job_name(_stem(command))
    program = _program(command, folder, job)
    arguments = program_arguments.understand(
        command.arguments, program.source, folder, job, _files_of_config(command.accelerate_config)
    )
    variables = command_variables.understand(command.environment)
    launcher = _launcher(command, program.source)
    processes = _processes_per_node(command)
    on_cpu = command.on_cpu or arguments.on_cpu or variables.gpus == 0
    gpus = 0 if on_cpu else processes or variables.gpus
    requirements = _requirements(command, program.source)
    script = {
        "launcher": str(launcher),
        **program.fields,
        "args": arguments.words,
        "requirements": requirements,
        "checkpointArgument": arguments.checkpoint_argument,
        "accelerateConfig": _config_in_pods(command.accelerate_config, arguments)
        if launcher is Launcher.ACCELERATE
        else {},
    }
    variables.secret_variables = list(dict.fromkeys((*variables.secret_variables, *arguments.secret_variables)))
    return Draft(
        name=job,
        title=f"{posixpath.basename(command.program)}, started by {launcher}",
        script={key: value for key, value in script.items() if value not in (None, [], {})},
        program_files=program.files,
        model=arguments.model,
        dataset=arguments.dataset,
        nodes=command.nodes or 1,
        processes_per_node=processes if launcher is not Launcher.PYTHON else None,
        gpus=gpus,
        env=tuple(variables.entries(f"{job}-env")),
        volumes=_volumes(arguments, job),
        data_folder=arguments.files.root if arguments.files.paths else None,
        runs_here=not arguments.files.paths or bool(arguments.files.splits),
        endpoint=variables.endpoint,
        needs_hub_token=arguments.needs_hub_token or variables.needs_hub_token,
        publish=arguments.publish,
        comments=_comments(arguments, requirements),
        remarks=(
            *command.remarks,
            *variables.remarks,
            *arguments.remarks,
            *_secret_remarks(variables, job),
            *program.remarks,
            *_source_remarks(program.source),
            *_launcher_remarks(command, launcher),
        ),
        secrets=(*arguments.secrets, *variables.secrets),
    )


def _stem(command: LaunchCommand) -> str:
    last = command.program.rpartition(".")[2] if command.is_module else posixpath.basename(command.program)
    return last.removesuffix(".py")


def _with_config_file(command: LaunchCommand, folder: Path) -> LaunchCommand:
    """Read the configuration file of accelerate into the command; options have precedence, as with accelerate itself."""
    if command.config_file is None:
        return command
    try:
        text = (folder / command.config_file).read_bytes()[:CONFIG_MAX_BYTES].decode("utf-8")
    except (OSError, ValueError):
        note = Remark(f"{shown(command.config_file)} can't be read here: put what it says into script.accelerateConfig")
        return replace(command, remarks=(*command.remarks, note))
    file = accelerate_config.of_file(text, posixpath.basename(command.config_file))
    if (file.nodes or 1) > NODES_MAX:
        raise CommandError(f"{shown(command.config_file)}: num_machines is over {NODES_MAX}")
    return replace(
        command,
        nodes=command.nodes or file.nodes,
        total_processes=command.total_processes or file.total_processes,
        on_cpu=command.on_cpu or file.on_cpu,
        accelerate_config=accelerate_config.merged(file.config, command.accelerate_config),
        remarks=(*command.remarks, *file.remarks),
    )


def _processes_per_node(command: LaunchCommand) -> int | None:
    total, nodes = command.total_processes, command.nodes or 1
    if total is None:
        return command.processes_per_node
    if total % nodes or total // nodes > PROCESSES_MAX:
        raise CommandError(
            f"{total} processes on {nodes} nodes: every node has the same number of processes, at most {PROCESSES_MAX}"
        )
    return total // nodes


def _launcher(command: LaunchCommand, source: ProgramSource) -> Launcher:
    """Return what starts the program. One process of PyTorch is the same under torchrun, and there it can become many."""
    if command.launcher is Launcher.PYTHON and source.is_torch:
        return Launcher.TORCHRUN
    return command.launcher


def _program(command: LaunchCommand, folder: Path, job: str) -> Program:
    """Return where the program comes from: a ConfigMap for a file of this machine, else its path or module in the image."""
    module = folder / f"{command.program.replace('.', '/')}.py"
    if command.is_module and not ("." not in command.program and is_file(module)):
        remarks = (
            (
                Remark(
                    f"{command.program} lies in this folder: build an image with it (spec.image), for a ConfigMap holds no packages"
                ),
            )
            if is_file(module) or is_folder(module.with_suffix(""))
            else ()
        )
        return Program({"module": command.program}, {}, program_source.of_module(command.program), remarks)
    written = f"{command.program}.py" if command.is_module else command.program
    file = folder / written
    is_here = is_file(file)
    if not is_here and written.startswith("/"):
        path = "/" + posixpath.normpath(written).lstrip("/")
        return Program(
            {"path": path},
            {},
            ProgramSource(),
            (Remark(f"{shown(path)} is not on this machine: it must be in the image or on a volume"),),
        )
    source = program_source.read(file) if is_here else ProgramSource()
    key = _key(file.name)
    remarks = (
        ()
        if is_here
        else (Remark(f"{shown(written)} is not in this folder: make the ConfigMap {job}-code where it is"),)
    )
    files = {key: file, **{_key(other.name): other for other in source.beside}}
    return Program({"configMap": {"name": f"{job}-code", "key": key}}, files, source, remarks)


def _key(name: str) -> str:
    """Return the key of a ConfigMap for a file."""
    return re.sub("[^-._a-zA-Z0-9]", "_", name)[-_KEY_MAX:]


def _requirements(command: LaunchCommand, source: ProgramSource) -> list[str]:
    """Return well-known packages that the program needs and the image lacks."""
    needed = {INSTALLED_AS[name] for name in source.imports if name in INSTALLED_AS}
    words = [part for word in command.arguments for part in word.replace("=", ",").split(",")]
    needed |= {name for name in _REPORTERS if name in words}
    if command.accelerate_config.get("distributed_type") == "DEEPSPEED" or "--deepspeed" in words:
        needed.add("deepspeed")
    return sorted(needed)


def _files_of_config(config: Any) -> list[Argument]:
    """Return the files that a configuration of accelerate refers to."""
    section = config.get("deepspeed_config")
    file = section.get("deepspeed_config_file") if isinstance(section, dict) else None
    return [Argument("--deepspeed_config_file", (file,))] if isinstance(file, str) else []


def _config_in_pods(config: Any, arguments: ProgramArguments) -> dict[str, Any]:
    """Return the configuration of accelerate with files at their path in the pods."""
    result = dict(config)
    for argument in _files_of_config(config):
        path = arguments.files.in_pod(argument.value) or argument.value
        result["deepspeed_config"] = {**result["deepspeed_config"], "deepspeed_config_file": path}
    return result


def _volumes(arguments: ProgramArguments, job: str) -> tuple[dict[str, Any], ...]:
    """Return the volume with the files of this machine that the command names."""
    if not arguments.files.paths:
        return ()
    return ({"name": "data", "mountPath": program_files.MOUNT_PATH, "readOnly": True, "claimName": f"{job}-data"},)


def _comments(arguments: ProgramArguments, requirements: list[str]) -> Comments:
    comments: Comments = {}
    if requirements:
        comments["spec", "script", "requirements"] = "what the image lacks; pin the versions"
    if arguments.checkpoint_argument:
        comments["spec", "script", "checkpointArgument"] = "gets the newest checkpoint when the job begins again"
    if arguments.files.paths:
        comments["spec", "volumes"] = f"a claim with {_shortened(arguments.files.relative())}"
    return comments


def _shortened(names: list[str]) -> str:
    """Return names for a comment."""
    few = [name for name in names if name.isprintable()][:4]
    return ", ".join(few) + (", ..." if len(few) < len(names) else "")


def _secret_remarks(variables: Environment, job: str) -> list[Remark]:
    if not variables.secret_variables:
        return []
    literals = " ".join(f"--from-literal={name}=..." for name in variables.secret_variables)
    return [Remark(f"secrets are not written down: kubectl create secret generic {job}-env {literals}")]


def _source_remarks(source: ProgramSource) -> list[Remark]:
    """Return what the program's text says that the manifest can't mend."""
    remarks = []
    if source.syntax_error:
        remarks.append(f"{source.syntax_error}: it can't run as it is")
    if source.secret_line is not None:
        remarks.append(
            f"line {source.secret_line} of the program holds what looks like a secret: who may read the ConfigMap reads it"
        )
    if source.folders:
        remarks.append(
            f"the program imports {', '.join(source.folders)}, which are folders: a ConfigMap holds none, build an image with them"
        )
    if source.imports & OTHER_FRAMEWORKS:
        names = ", ".join(sorted(source.imports & OTHER_FRAMEWORKS))
        remarks.append(f"the program imports {names}: name an image with it in spec.image")
    unknown = sorted(source.imports - IN_THE_IMAGE - OTHER_FRAMEWORKS - INSTALLED_AS.keys())
    if unknown:
        remarks.append(f"the program imports {', '.join(unknown)}: what the image lacks goes into script.requirements")
    if source.loads_metrics:
        remarks.append(
            "evaluate.load downloads from the Hub, which pods that train do not reach: load the metric from a folder of a volume"
        )
    return [Remark(text) for text in remarks]


def _launcher_remarks(command: LaunchCommand, launcher: Launcher) -> list[Remark]:
    if launcher is command.launcher:
        return []
    return [Remark("started by torchrun in place of python: one process is the same, and nodes and GPUs can be raised")]
