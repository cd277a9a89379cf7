"""Asks on a terminal what to train, and makes a job of the answers."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from finetune_operator.cli.command_errors import CommandError
from finetune_operator.cli.init import launch_command
from finetune_operator.cli.init.draft import STORAGE_SIZE, Draft, checked_name, job_name
from finetune_operator.cli.init.launch_command import NODES_MAX, PROCESSES_MAX
from finetune_operator.cli.init.program_draft import draft_of
from finetune_operator.cli.init.program_files import MOUNT_PATH, is_file, is_folder
from finetune_trainer.contract.task_facts import TASKS

_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)?")
_SIZE = re.compile(r"[1-9][0-9]{0,11}([KMGTP]i|[kMGTP])?")
Check = Callable[[str], str | None]
"""What is wrong with an answer; None for a good one."""


def ask(folder: Path, name: str | None, output: Path | None, *, force: bool) -> tuple[Draft, Path]:
    """Ask what to train; return the job, and the file to write it to. Raise CommandError where nobody can answer."""
    if not sys.stdin.isatty():
        raise CommandError(
            "nothing to run, and nobody to ask: finetune init -- torchrun --nproc_per_node 8 train.py ..."
        )
    if name:
        checked_name(name)
    try:
        with redirect_stdout(sys.stderr):  # standard output may be a file
            draft = _sized(_job(folder, name))
            return draft, output or Path(_ask("File to write", f"{draft.name}.yaml", lambda text: _taken(text, force)))
    except typer.Abort as error:
        raise KeyboardInterrupt from error


def _job(folder: Path, name: str | None) -> Draft:
    """Ask for a command, or else for a task."""

    def draft_of_command(command: str) -> Draft:
        return draft_of(launch_command.parse([command]), folder, name)

    def check(command: str) -> str | None:
        try:
            if command:
                draft_of_command(command)
        except CommandError as error:
            return str(error)
        return None

    command = _ask("Command that trains your own program (Enter: none, one of the tasks)", "", check)
    if not command:
        return _task(folder, name)
    draft = draft_of_command(command)
    if not draft.model:
        model = _ask("Model on the Hub that the program loads (Enter: none)", "", _hub_name_or_nothing)
        draft = replace(draft, model={"name": model} if model else {})
    if not draft.dataset and not draft.volumes:
        dataset = _ask("Dataset on the Hub that the program loads (Enter: none)", "", _hub_name_or_nothing)
        draft = replace(draft, dataset={"name": dataset} if dataset else {})
    return draft


def _task(folder: Path, name: str | None) -> Draft:
    """Ask for what a task needs."""
    task = _ask(f"Task ({', '.join(TASKS)})", "text-classification", _one_of(tuple(TASKS)))
    model = _ask("Model on the Hub", None, _hub_name)
    dataset = _ask("Dataset on the Hub, or a file of this machine", None, lambda text: _dataset_problem(text, folder))
    file = folder / dataset
    is_here = is_file(file)
    job = name or job_name(f"{model.rpartition('/')[2]}-{file.stem if is_here else file.name}")
    roles = ", ".join(f"{role}: {column}" for role, column in TASKS[task].roles.items() if column is not None)
    volume = {"name": "data", "mountPath": MOUNT_PATH, "readOnly": True, "claimName": f"{job}-data"}
    source: dict[str, Any] = {"files": {"train": [f"{MOUNT_PATH}/{file.name}"]}} if is_here else {"name": dataset}
    return Draft(
        name=job,
        title=f"{task} with {model}",
        task=task,
        model={"name": model},
        dataset=source,
        volumes=(volume,) if is_here else (),
        data_folder=file.parent if is_here else None,
        comments={("spec", "dataset"): f"where yours have other names, add columns: {{{roles}}}"},
    )


def _sized(draft: Draft) -> Draft:
    """Ask how large the job is, and where its model goes."""
    nodes = int(_ask("Nodes", str(draft.nodes), _number(1, NODES_MAX)))
    known = 1 if draft.gpus is None else draft.gpus
    gpus = int(_ask("GPUs of each node (0: train on the CPU)", str(known), _number(0, PROCESSES_MAX)))
    size = _ask("Storage for checkpoints and the model", STORAGE_SIZE, _quantity)
    publish = draft.publish or {}
    repository = _ask("Publish on the Hub as owner/name (Enter: no)", publish.get("repoId", ""), _hub_name_or_nothing)
    return replace(
        draft,
        nodes=nodes,
        gpus=gpus,
        processes_per_node=draft.processes_per_node if gpus in (0, draft.gpus) else None,
        storage_size=size,
        publish={**publish, "repoId": repository} if repository else None,
        needs_hub_token=draft.needs_hub_token or bool(repository),
    )


def _ask(question: str, default: str | None, check: Check) -> str:
    """Ask until the answer is good."""
    while True:
        answer = str(typer.prompt(question, default=default, show_default=bool(default))).strip()
        wrong = check(answer)
        if wrong is None:
            return answer
        print(f"  {wrong}")


def _hub_name(answer: str) -> str | None:
    return None if _HUB_NAME.fullmatch(answer) else "a name on the Hub is name or owner/name"


def _hub_name_or_nothing(answer: str) -> str | None:
    return _hub_name(answer) if answer else None


def _dataset_problem(answer: str, folder: Path) -> str | None:
    good = _HUB_NAME.fullmatch(answer) or (answer and is_file(folder / answer))
    return None if good else "neither a file that is here nor a name on the Hub"


def _one_of(choices: tuple[str, ...]) -> Check:
    return lambda answer: None if answer in choices else f"one of {', '.join(choices)}"


def _number(least: int, most: int) -> Check:
    def check(answer: str) -> str | None:
        good = re.fullmatch("[0-9]{1,6}", answer) and least <= int(answer) <= most
        return None if good else f"a number from {least} to {most}"

    return check


def _quantity(answer: str) -> str | None:
    return None if _SIZE.fullmatch(answer) else "a size such as 50Gi"


def _taken(answer: str, force: bool) -> str | None:
    """Return why a file can't be written."""
    if is_folder(Path(answer)):
        return "is a folder"
    return "is there already; name another file" if is_file(Path(answer)) and not force else None
