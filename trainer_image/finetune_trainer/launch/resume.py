"""Decides, once for an attempt, what it goes on from.

Called by node 0 between fencing and beginning. It only reads the volume, but for broken folders, which it moves aside.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from finetune_trainer.config import Cause, CheckpointRef, Failure, PodPath, Reason, RunConfig
from finetune_trainer.launch import manifest
from finetune_trainer.launch.checkpoints import checkpoint_folders, choose, move_aside, usable_folders
from finetune_trainer.launch.marks import Mark, newest_mark
from finetune_trainer.paths import to_local, to_pod
from finetune_trainer.volume import Layout, Run, VolumeError, read_document

_BATCH_SIZE = "per_device_train_batch_size"
_ACCUMULATION = "gradient_accumulation_steps"
_DEFAULT_BATCH_SIZE = 8
_NOT_WHAT_IS_TRAINED = frozenset(
    {
        "namespace",
        "uid",
        "nodes",
        "processes_per_node",
        "accelerators",
        "device_memory_bytes",
        "output",
        "checkpoint_interval_seconds",
        "resume_from",
        "prepare",
        "peers",
        "port",
        "grace_period_seconds",
        "hub",
        "publish",
    }
)


@dataclass(frozen=True)
class Decision:
    """What an attempt starts with."""

    resume: CheckpointRef | None = None
    known: tuple[CheckpointRef, ...] = ()
    model: PodPath | None = None
    messages: tuple[str, ...] = ()


def decide(layout: Layout, config: RunConfig, attempt: int) -> Decision:
    """Sealed model of this run, else its newest good checkpoint, else what `resumeFrom` says."""
    run = layout.run
    previous = newest_mark(run, attempt)
    model, messages = _finished_model(run, previous) if previous else (None, ())
    if model is not None:
        return Decision(model=model, messages=messages)
    choice = choose(usable_folders(run, attempt), run)
    messages += choice.messages
    known = tuple(
        found.ref(folder) for folder in usable_folders(run, attempt) if (found := manifest.read(folder)) is not None
    )
    if choice.sealed is not None:
        return Decision(resume=choice.sealed.ref, known=known, messages=messages)
    if config.resume_from == "never":
        return Decision(known=known, messages=messages)
    if config.resume_from == "auto":
        earlier, more = _from_earlier_run(layout, config)
        return Decision(resume=earlier, known=known, messages=messages + more)
    return Decision(resume=_named(config.resume_from), known=known, messages=messages)


def _finished_model(run: Run, previous: Mark) -> tuple[PodPath | None, tuple[str, ...]]:
    folder = to_local(previous.model) if previous.model else run.attempt(previous.attempt).model
    if not folder.is_dir():
        return None, ()
    problem = manifest.problem(folder)
    if problem is None:
        return to_pod(folder), ()
    aside = move_aside(run, folder, problem)
    return None, (f"the finished model was damaged ({problem}) and has been moved to {to_pod(aside)}",)


def _named(path: PodPath) -> CheckpointRef:
    folder = to_local(path)
    problem = manifest.problem(folder)
    found = manifest.read(folder)
    if problem is None and found is not None:
        return found.ref(folder)
    message = (
        f"resumeFrom names {path}, but that is no sealed checkpoint: {problem if folder.is_dir() else 'no folder'}."
    )
    raise VolumeError(Failure(reason=Reason.CHECKPOINT_NOT_FOUND, cause=Cause.USER, message=message))


# --- runs of earlier objects of the same name ------------------------------------------------------------------------


def global_batch(config: RunConfig) -> int:
    """Rows per optimizer step over all ranks."""
    size = config.training_arguments.get(_BATCH_SIZE, _DEFAULT_BATCH_SIZE)
    accumulation = config.training_arguments.get(_ACCUMULATION, 1)
    if not isinstance(size, int) or not isinstance(accumulation, int):
        return 0
    return size * accumulation * config.world_size


def trains_the_same(one: RunConfig, other: RunConfig) -> bool:
    """Whether a checkpoint of one continues exactly in the other: same data, model, arguments and global batch."""

    def essence(config: RunConfig) -> dict[str, object]:
        fields = config.model_dump(exclude=set(_NOT_WHAT_IS_TRAINED))
        arguments = dict(config.training_arguments)
        arguments.pop(_BATCH_SIZE, None)
        arguments.pop(_ACCUMULATION, None)
        return fields | {"training_arguments": arguments, "global_batch": global_batch(config)}

    return essence(one) == essence(other)


def runs_to_continue(layout: Layout, config: RunConfig) -> list[tuple[Run, Mark]]:
    """Unfinished earlier runs that train the same thing, newest first, with their last mark.

    None that is older than a finished one: that training was over.
    """
    found = []
    for run in layout.other_runs():
        mark = newest_mark(run)
        if mark is not None and (theirs := _run_config(run)) is not None and trains_the_same(theirs, config):
            found.append((run, mark))
    found.sort(key=lambda pair: pair[1].begun, reverse=True)
    unfinished = []
    for run, mark in found:
        if mark.model is not None or any(attempt.model.is_dir() for attempt in run.begun()):
            break
        unfinished.append((run, mark))
    return unfinished


def _run_config(run: Run) -> RunConfig | None:
    try:
        return read_document(run.config, RunConfig)
    except ValidationError:
        return None


def _from_earlier_run(layout: Layout, config: RunConfig) -> tuple[CheckpointRef | None, tuple[str, ...]]:
    messages: tuple[str, ...] = ()
    for run, mark in runs_to_continue(layout, config):
        folders = [*usable_folders(run, mark.attempt), *checkpoint_folders(run.attempt(mark.attempt))]
        choice = choose(folders, run)
        messages += choice.messages
        if choice.sealed is not None:
            messages += (f"going on from step {choice.sealed.manifest.step} of an earlier, unfinished run",)
            return choice.sealed.ref, messages
    return None, messages
