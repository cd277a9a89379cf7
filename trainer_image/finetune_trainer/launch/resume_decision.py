"""The decision on what an attempt resumes from; it is made once for an attempt.

Node 0 decides between fencing and beginning. This only reads the volume, except that broken folders are moved aside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune_trainer.contract.effects import Effect, parts
from finetune_trainer.contract.frozen_document import PodPath
from finetune_trainer.contract.prepared import Prepared
from finetune_trainer.contract.records import CheckpointRef, Reason
from finetune_trainer.contract.run_config import RunConfig
from finetune_trainer.launch.checkpoints import choose, move_aside, step_of, usable_folders
from finetune_trainer.shared.checkpoints import manifest, training_note
from finetune_trainer.shared.checkpoints.attempt_file import AttemptRecord, final_model, newest_attempt_record
from finetune_trainer.shared.paths import to_local, to_pod
from finetune_trainer.shared.volume import Layout, Run, VolumeError, exists, read_checked, read_document

CONTINUES = ("auto", "required")
"""Values of `resumeFrom` with which an earlier, unfinished run of the same name is resumed."""

_BATCH_SIZE = "per_device_train_batch_size"
_ACCUMULATION = "gradient_accumulation_steps"
_DEFAULT_BATCH_SIZE = 8


@dataclass(frozen=True)
class ResumeDecision:
    """Decision on what an attempt starts from."""

    resume: CheckpointRef | None = None
    known: tuple[CheckpointRef, ...] = ()
    model: PodPath | None = None
    messages: tuple[str, ...] = ()


def decide(
    layout: Layout, config: RunConfig, attempt: int, prepared: Prepared | None = None, expected: int | None = None
) -> ResumeDecision:
    """Return the sealed model of this run, else its newest good checkpoint, else what `resumeFrom` names.

    `prepared` is the data to train on, where it is known. A checkpoint of other data, or of another base model, is not
    resumed from: it stays as it is, and no later attempt reads or removes it. `expected` is the step of the newest checkpoint
    that this job has sealed, as far as the operator knows.
    """
    run = layout.run
    model, messages = _finished_model(run, attempt)
    if model is not None:
        return ResumeDecision(model=model, messages=messages)
    chosen = _from_checkpoints(layout, config, attempt, prepared)
    decision = replace(chosen, messages=messages + chosen.messages)
    previous = newest_attempt_record(run, attempt)
    steps = [expected, previous.resume.step if previous is not None and previous.resume is not None else None]
    return _with_lost_steps(layout, config, decision, max((step for step in steps if step is not None), default=None))


def _from_checkpoints(layout: Layout, config: RunConfig, attempt: int, prepared: Prepared | None) -> ResumeDecision:
    run = layout.run
    usable = own_folders(run, attempt, prepared)
    choice = choose(usable, run)
    messages = choice.messages
    lineage = (folder for folder in usable if exists(folder) and folder not in choice.passed_over)
    known = tuple(content.ref(folder) for folder in lineage if (content := manifest.read(folder)) is not None)
    if choice.sealed is not None:
        return ResumeDecision(resume=choice.sealed.ref, known=known, messages=messages)
    messages += _left_out(usable_folders(run, attempt), prepared, "this run")
    if config.resume_from == "never":
        return ResumeDecision(known=known, messages=messages)
    if config.resume_from in CONTINUES:
        earlier, more = _from_earlier_run(layout, config, prepared)
        return ResumeDecision(resume=earlier, known=known, messages=messages + more)
    return ResumeDecision(resume=_named(config.resume_from, prepared), known=known, messages=messages)


def _with_lost_steps(
    layout: Layout, config: RunConfig, decision: ResumeDecision, reached: int | None
) -> ResumeDecision:
    """Return the decision with a message where this job had a checkpoint of a later step than it resumes from."""
    step = decision.resume.step if decision.resume is not None else None
    if reached is None or (step is not None and step >= reached):
        return decision
    where = to_pod(layout.run.folder)
    lost = f"this job has sealed a checkpoint of step {reached}, but there is none that can be used below {where}"
    if step is not None:
        return replace(decision, messages=(*decision.messages, f"{lost}: training goes on from step {step}"))
    if config.resume_from != "required":
        return replace(decision, messages=(*decision.messages, f"{lost}, nor an older one: training begins anew"))
    notes = "".join(f" {message}." for message in decision.messages)
    message = f"{lost[0].upper()}{lost[1:]}, nor an older one, and resumeFrom is required.{notes}"
    raise VolumeError(Reason.CHECKPOINT_NOT_FOUND, message)


def may_go_on(layout: Layout, config: RunConfig, attempt: int) -> bool:
    """Return whether an attempt could resume from anything: then it must first know what it trains on."""
    if usable_folders(layout.run, attempt) or config.resume_from not in (*CONTINUES, "never"):
        return True
    return config.resume_from in CONTINUES and bool(runs_to_continue(layout, config))


def own_folders(run: Run, attempt: int, prepared: Prepared | None) -> list[Path]:
    """List the checkpoints of this run that an attempt may resume from: those of the data that it trains on."""
    return [folder for folder in usable_folders(run, attempt) if _difference(folder, prepared) is None]


def _difference(folder: Path, prepared: Prepared | None) -> str | None:
    """Return how a checkpoint's data or base model differs from what is trained on; None where it does not, or is not known."""
    return training_note.difference(_note(folder), prepared) if prepared is not None else None


def _note(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's note on its data. A damaged note counts as none: the full read of the checkpoint reports the damage."""
    sealed = manifest.read(folder)
    expected = sealed.files.get(training_note.NOTE) if sealed is not None else None
    try:
        holds = expected is not None and manifest.digest(folder / training_note.NOTE) == expected
    except OSError:
        return {}
    return training_note.read(folder) if holds else {}


def _left_out(folders: Sequence[Path], prepared: Prepared | None, whose: str) -> tuple[str, ...]:
    """Return the message on checkpoints that are not resumed from, which names the newest of them."""
    others = [(folder, other) for folder in folders if (other := _difference(folder, prepared)) is not None]
    if not others:
        return ()
    folder, other = max(others, key=lambda pair: step_of(pair[0]))
    return (_made_from(to_pod(folder), other, whose),)


def _made_from(path: PodPath, other: str, whose: str) -> str:
    return f"{path}, the newest checkpoint of {whose}, was made from {other}: it stays there, and training starts anew"


def _finished_model(run: Run, attempt: int) -> tuple[PodPath | None, tuple[str, ...]]:
    folder = final_model(run, attempt)
    if folder is None:
        return None, ()
    problem = manifest.problem(folder)
    if problem is None:
        return to_pod(folder), ()
    try:
        where = f"has been moved to {to_pod(move_aside(run, folder, problem))}"
    except OSError as error:
        where = f"can't be moved aside ({error.strerror or error}): it is made again"
    return None, (f"the finished model was damaged ({problem}) and {where}",)


def _named(path: PodPath, prepared: Prepared | None) -> CheckpointRef:
    folder = to_local(path)
    problem = manifest.unfit(folder) if exists(folder) else "no folder"
    content = manifest.read(folder)
    if problem is not None or content is None:
        message = f"resumeFrom names {path}, but that is no sealed checkpoint to go on from: {problem}."
        raise VolumeError(Reason.CHECKPOINT_NOT_FOUND, message)
    other = _difference(folder, prepared)
    if other is not None:
        message = f"resumeFrom names {path}, which was made from {other}: training cannot go on from it."
        raise VolumeError(Reason.CHECKPOINT_MISMATCH, message)
    return content.ref(folder)


# --- runs of earlier objects of the same name ------------------------------------------------------------------------


def global_batch(config: RunConfig) -> int:
    """Return the rows per optimizer step over all ranks."""
    size = config.training_arguments.get(_BATCH_SIZE, _DEFAULT_BATCH_SIZE)
    accumulation = config.training_arguments.get(_ACCUMULATION, 1)
    if not isinstance(size, int) or not isinstance(accumulation, int):
        return 0
    return size * accumulation * config.world_size


def trains_the_same(config: RunConfig, other: RunConfig) -> bool:
    """Return whether a checkpoint of one continues exactly in the other: same data, model, arguments and global batch."""

    def essence(config: RunConfig) -> dict[str, object]:
        compared = parts(config, Effect.TRAINING)
        for argument in (_BATCH_SIZE, _ACCUMULATION):
            compared["training_arguments"].pop(argument, None)
        return compared | {"global_batch": global_batch(config)}

    return essence(config) == essence(other)


def runs_to_continue(layout: Layout, config: RunConfig) -> list[tuple[Run, AttemptRecord]]:
    """List unfinished earlier runs that train the same, newest first, with their last records.

    Runs before a finished one are not listed: with the finished run the training was over.
    """
    runs = []
    for run in layout.other_runs():
        earlier, _ = run_config(run)
        record = newest_attempt_record(run) if earlier is not None and trains_the_same(earlier, config) else None
        if record is not None:
            runs.append((run, record))
    runs.sort(key=lambda pair: pair[1].begun, reverse=True)
    unfinished = []
    for run, record in runs:
        if record.model is not None or any(exists(attempt.model) for attempt in run.numbered()):
            break
        unfinished.append((run, record))
    return unfinished


def run_config(run: Run) -> tuple[RunConfig | None, str | None]:
    """Return the config of a run; None with the reason where it can't be read, None without a reason where it does not exist."""
    try:
        return read_checked(run.config, RunConfig, digest_required=False), None
    except ValueError:
        return None, "it is not what was written"
    except OSError as error:
        return None, str(error)


def _closed_runs(layout: Layout) -> tuple[str, ...]:
    """Return messages on earlier runs whose training can't be known."""
    reasons = [(run, run_config(run)[1]) for run in layout.other_runs()]
    return tuple(
        f"an earlier run of this name is not gone on from, for what it trained is not known: {to_pod(run.config)}: {reason}"
        for run, reason in reasons
        if reason is not None
    )


def _from_earlier_run(
    layout: Layout, config: RunConfig, prepared: Prepared | None
) -> tuple[CheckpointRef | None, tuple[str, ...]]:
    messages = _closed_runs(layout)
    for run, _ in runs_to_continue(layout, config):
        same, other = _of_same_data(run, usable_folders(run), prepared)
        choice = choose(same, run)
        messages += choice.messages
        if choice.sealed is not None:
            messages += (f"going on from step {choice.sealed.manifest.step} of an earlier, unfinished run",)
            return choice.sealed.ref, messages
        messages += other
    return None, messages


def _of_same_data(
    run: Run, folders: Sequence[Path], prepared: Prepared | None
) -> tuple[Sequence[Path], tuple[str, ...]]:
    """Return the checkpoints of an earlier run that were made from the data trained on now, and messages on the others.

    Where a checkpoint has no note on its data, the data that its run had prepared decides.
    """
    if prepared is None or not folders:
        return folders, ()
    with_note = [folder for folder in folders if training_note.tells_data(_note(folder))]
    without_note = [folder for folder in folders if folder not in with_note]
    same = [folder for folder in with_note if _difference(folder, prepared) is None]
    if without_note and _prepared_the_same(run, prepared):
        return [*same, *without_note], ()
    if same:
        return same, ()
    messages = _left_out(with_note, prepared, "an earlier, unfinished run")
    newest = to_pod(max(folders, key=step_of))
    return [], messages or (_made_from(newest, "data that is not known to be the same", "an earlier, unfinished run"),)


def _prepared_the_same(run: Run, prepared: Prepared) -> bool:
    try:
        earlier = read_checked(run.prepared, Prepared)
    except (OSError, ValueError):
        earlier = _of_older_release(run)
    if earlier is None:
        return False
    return earlier.data == prepared.data or earlier.data_digest == prepared.data_digest is not None


def _of_older_release(run: Run) -> Prepared | None:
    """Return the record of the data that an older release prepared: the record has no digest."""
    try:
        earlier = read_document(run.prepared, Prepared)
    except (OSError, ValueError):
        return None
    return earlier if earlier is not None and earlier.content_digest is None else None
