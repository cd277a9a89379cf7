"""Understands the command line that trains on one machine: its launcher, the options of that, the program. Pure: reads no file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from finetune_operator.cli.command_errors import CommandError
from finetune_operator.cli.init import accelerate_config
from finetune_operator.cli.init.launcher_options import ACCELERATE, TORCHRUN, LauncherOptions, split
from finetune_operator.cli.init.remarks import Remark
from finetune_operator.cli.init.secret_words import shown
from finetune_trainer.contract.script import Launcher

NODES_MAX, PROCESSES_MAX = 1000, 64
MEETING = "the nodes of a job find each other by themselves"
RESTARTS = "a job that crashes begins again at its newest checkpoint by itself (spec.backoffLimit)"
STARTING = "how processes are started, and where their output goes, is decided by the job"

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_PYTHON = re.compile(r"python[0-9.]*")
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*([.][A-Za-z_][A-Za-z0-9_]*)*")
_PREFIXES = ("nohup", "time", "exec", "env", "nice", "sudo")
_RUNNERS = ("uv", "poetry", "pdm", "pipenv", "hatch", "rye")
_TRL_COMMANDS = ("sft", "dpo", "grpo", "kto", "reward", "rloo")
_DEEPSPEED = (
    "deepspeed starts its processes itself: give `accelerate launch --use_deepspeed --zero_stage 3 SCRIPT ...`, or "
    "`torchrun SCRIPT --deepspeed CONFIG ...` where the script uses the Trainer"
)
_NOT_HERE = {
    "deepspeed": _DEEPSPEED,
    "srun": "srun starts a process for each node: give the command that it starts, with torchrun",
    "mpirun": "the nodes of a job do not meet by MPI: give the program with torchrun",
    "mpiexec": "the nodes of a job do not meet by MPI: give the program with torchrun",
    "horovodrun": "the nodes of a job do not meet by Horovod: give a program for torchrun, accelerate or python",
    "ray": "Ray has a cluster of its own: give a program for torchrun, accelerate or python",
    "jupyter": "a notebook is no program: `jupyter nbconvert --to script NOTEBOOK` makes one of it",
    "ipython": "give the program with python",
    "bash": "give the line of the shell script that trains: the one with python, torchrun or accelerate",
    "sh": "give the line of the shell script that trains: the one with python, torchrun or accelerate",
    "make": "give the command that make runs: the one with python, torchrun or accelerate",
    "docker": "give the command that runs in the container; its image goes into spec.image",
}
_LAUNCHER_MODULES = {
    "torch.distributed.run": "torchrun",
    "torch.distributed.launch": "torchrun",
    "accelerate.commands.launch": "accelerate-launch",
    "accelerate.commands.accelerate_cli": "accelerate",
    "deepspeed": "deepspeed",
    "deepspeed.launcher.runner": "deepspeed",
    "trl.cli": "trl",
}


@dataclass(frozen=True)
class LaunchCommand:
    """A command line whose launcher is understood; its program's arguments are as they were."""

    launcher: Launcher
    program: str
    """File or module."""
    is_module: bool = False
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    nodes: int | None = None
    processes_per_node: int | None = None
    total_processes: int | None = None
    """Processes of all nodes, which is how accelerate counts."""
    on_cpu: bool = False
    config_file: str | None = None
    """Configuration of accelerate, which is still to be read."""
    accelerate_config: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()


def parse(words: Sequence[str]) -> LaunchCommand:
    """Return what a command line means. Raise CommandError where it starts no training that a job could."""
    words = _words(words)
    environment: dict[str, str] = {}
    while words:
        assignment = _ASSIGNMENT.fullmatch(words[0])
        if assignment is not None:
            environment[assignment[1]] = assignment[2]
            del words[0]
        elif words[0] in _PREFIXES:
            del words[0]
        elif words[0] in _RUNNERS and words[1:2] == ["run"]:
            del words[:2]
        else:
            break
    command = _of_launcher(words)
    return replace(command, environment={**environment, **command.environment})


def _words(words: Sequence[str]) -> list[str]:
    """Return the words of a command that may have been given as one text, as a notebook has it: `!torchrun ...`."""
    for word in words:
        if "\0" in word or any("\ud800" <= character <= "\udfff" for character in word):
            raise CommandError(f"{shown(word)!a}: not UTF-8 text")
    if len(words) == 1 and any(character.isspace() for character in words[0]):
        try:
            split_words = shlex.split(words[0].replace("\\\n", " "))
        except ValueError as error:
            raise CommandError(f"the command can't be read: {error}") from error
        if any(word in ("&&", "||", ";", "|", "&", ">", ">>", "2>&1") for word in split_words):
            raise CommandError("give one command alone, without &&, |, > and the like")
        words = split_words
    result = list(words)
    if result and result[0].startswith(("!", "%")):
        result[0] = result[0][1:]
    return [word for number, word in enumerate(result) if word or number]


def _of_launcher(words: list[str]) -> LaunchCommand:
    if not words:
        raise CommandError("nothing to run: finetune init -- torchrun --nproc_per_node 8 train.py ...")
    name, rest = PurePosixPath(words[0]).name, words[1:]
    if name == "torchrun":
        return _torchrun(rest)
    if name in ("accelerate", "accelerate-launch"):
        if name == "accelerate" and rest[:1] != ["launch"]:
            raise CommandError("of accelerate's commands only `accelerate launch` trains")
        return _accelerate(rest[1:] if name == "accelerate" else rest)
    if name == "trl":
        return _trl(rest)
    if _PYTHON.fullmatch(name):
        return _python(rest)
    if name in _NOT_HERE:
        raise CommandError(_NOT_HERE[name])
    if name.endswith((".py", ".ipynb", ".sh")):
        return _program(Launcher.PYTHON, words, is_module=False)
    raise CommandError(
        f"{shown(words[0])}: no way to start a training: give torchrun, accelerate launch, python, or a program that ends with .py"
    )


def _program(launcher: Launcher, words: Sequence[str], *, is_module: bool) -> LaunchCommand:
    """Take the first word for the program, and the others for its arguments."""
    if not words or not words[0]:
        raise CommandError(f"{launcher} is given no program")
    program = words[0]
    if is_module and program in _LAUNCHER_MODULES and launcher is Launcher.PYTHON:
        return _of_launcher([_LAUNCHER_MODULES[program], *words[1:]])
    name = _LAUNCHER_MODULES.get(program, PurePosixPath(program).name)
    if name in ("torchrun", "accelerate", "accelerate-launch", "deepspeed", "trl") or _PYTHON.fullmatch(name):
        raise CommandError(f"{launcher} can't start {name}: give one launcher, and the program")
    problem = _module_problem(program) if is_module else _file_problem(program, name)
    if problem:
        raise CommandError(problem)
    return LaunchCommand(launcher, program, is_module, tuple(words[1:]))


def _module_problem(program: str) -> str:
    return "" if _MODULE.fullmatch(program) else f"{shown(program)}: no name of a Python module"


def _file_problem(program: str, name: str) -> str:
    """Return why a file can't be the program of a job; empty where it can."""
    if name.endswith(".ipynb"):
        return f"{shown(program)}: `jupyter nbconvert --to script {shown(name)}` makes a program of a notebook"
    if name.endswith((".sh", ".bash")):
        return f"{shown(program)}: {_NOT_HERE['sh']}"
    if name == "xla_spawn.py":
        return "xla_spawn.py starts its processes itself: give the program with python"
    if not name or name in (".", "..") or program.startswith("-") or program.endswith("/"):
        return f"{shown(program)}: no program; was a variable of the command empty?"
    return ""


def _torchrun(words: Sequence[str]) -> LaunchCommand:
    options = split(words, TORCHRUN)
    _refuse_no_program(options)
    remarks: list[Remark] = []
    nodes, processes, on_cpu = None, None, False
    for name, value in options.values.items():
        written = options.written[name]
        if name == "nnodes":
            least, _, most = value.partition(":")
            nodes = number(written, most or least, NODES_MAX)
            if most and most != least:
                remarks.append(
                    Remark(
                        f"{written} {value}: a job has a fixed number of nodes, here the upper bound: nodes: {nodes}"
                    )
                )
        elif name == "nproc_per_node":
            on_cpu = value == "cpu"
            processes = None if value in ("auto", "gpu", "cpu", "xpu") else number(written, value, PROCESSES_MAX)
        elif name in ("node_rank", "master_addr", "master_port", "local_addr", "standalone") or name.startswith(
            "rdzv_"
        ):
            remarks.append(Remark(MEETING, written))
        elif name == "max_restarts":
            remarks.append(Remark(RESTARTS, written))
        elif name != "module":
            remarks.append(Remark(STARTING, written))
    command = _program(Launcher.TORCHRUN, options.rest, is_module="module" in options.values)
    return replace(command, nodes=nodes, processes_per_node=processes, on_cpu=on_cpu, remarks=tuple(remarks))


def _accelerate(words: Sequence[str]) -> LaunchCommand:
    options = split(words, ACCELERATE)
    _refuse_no_program(options)
    if "tpu" in options.values:
        raise CommandError("--tpu starts the processes of a TPU itself: give the program with python")
    command = _program(Launcher.ACCELERATE, options.rest, is_module="module" in options.values)
    remarks: list[Remark] = []
    environment: dict[str, str] = {}
    for name, value in options.values.items():
        written = options.written[name]
        if name in ("machine_rank", "main_process_ip", "main_process_port", "same_network") or name.startswith("rdzv_"):
            remarks.append(Remark(MEETING, written))
        elif name == "max_restarts":
            remarks.append(Remark(RESTARTS, written))
        elif name == "num_cpu_threads_per_process":
            environment["OMP_NUM_THREADS"] = str(number(written, value, 1024))
        elif name == "gpu_ids":
            remarks.append(Remark("the cluster gives each pod its GPUs", written))
        elif name not in accelerate_config.UNDERSTOOD and not accelerate_config.section_of(name):
            remarks.append(Remark(STARTING, written))
    values = options.values
    return replace(
        command,
        environment=environment,
        nodes=number("--num_machines", values["num_machines"], NODES_MAX) if "num_machines" in values else None,
        total_processes=number("--num_processes", values["num_processes"], NODES_MAX * PROCESSES_MAX)
        if "num_processes" in values
        else None,
        on_cpu="cpu" in values,
        config_file=values.get("config_file"),
        accelerate_config=accelerate_config.of_options(values),
        remarks=tuple(remarks),
    )


def _refuse_no_program(options: LauncherOptions) -> None:
    if "no_python" in options.values:
        raise CommandError(f"{options.written['no_python']}: a job runs programs in Python alone")
    if "help" in options.values or "print_completion" in options.values:
        raise CommandError("the command trains nothing: it only prints")


def _trl(words: Sequence[str]) -> LaunchCommand:
    if not words or words[0] not in _TRL_COMMANDS:
        raise CommandError(f"of trl's commands these train: {', '.join(_TRL_COMMANDS)}")
    arguments, remarks, counts = list(words[1:]), [], {}
    for option, most in (("--num_machines", NODES_MAX), ("--num_processes", NODES_MAX * PROCESSES_MAX)):
        if option in arguments:
            at = arguments.index(option)
            counts[option] = number(option, "".join(arguments[at + 1 : at + 2]), most)
            del arguments[at : at + 2]
    if "--accelerate_config" in arguments:
        at = arguments.index("--accelerate_config")
        del arguments[at : at + 2]
        remarks.append(
            Remark("torchrun starts the ranks; for FSDP or DeepSpeed give `accelerate launch`", "--accelerate_config")
        )
    return LaunchCommand(
        Launcher.TORCHRUN,
        f"trl.scripts.{words[0]}",
        is_module=True,
        arguments=tuple(arguments),
        nodes=counts.get("--num_machines"),
        total_processes=counts.get("--num_processes"),
        remarks=tuple(remarks),
    )


def _python(words: Sequence[str]) -> LaunchCommand:
    """Understand `python [options] FILE|-m MODULE ...`."""
    rest, remarks = list(words), list[Remark]()
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        valued = re.search("[chVmWX]", word)
        if word == "-" or word.startswith("--") or (valued is not None and valued[0] in "chV"):
            raise CommandError(f"python {shown(word)}: write the program into a file, and give the file")
        value = word[valued.end() :] if valued is not None else ""
        if valued is not None and not value:
            value = rest.pop(0) if rest else ""
        if valued is not None and valued[0] == "m":
            command = _program(Launcher.PYTHON, [value, *rest], is_module=True)
            return replace(command, remarks=(*remarks, *command.remarks))
        remarks.append(Remark("python is started by the job, without options of its own", word))
    command = _program(Launcher.PYTHON, rest, is_module=False)
    return replace(command, remarks=(*remarks, *command.remarks))


def number(option: str, value: str, most: int) -> int:
    """Return the number that an option was given. Raise CommandError for anything else."""
    if not re.fullmatch("[0-9]{1,6}", value) or not 1 <= int(value) <= most:
        raise CommandError(
            f"{option} is a number from 1 to {most}, not {shown(value) or 'nothing'}; was a variable empty?"
        )
    return int(value)
