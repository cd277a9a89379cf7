"""Attempts and sealed checkpoints made by hand, in the layout of the volume."""

import json
import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from finetune_trainer.contract.prepared import PreparedTask, PrepareSummary
from finetune_trainer.contract.records import CheckpointRef
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.launch import sealing
from finetune_trainer.launch.resume_decision import decide
from finetune_trainer.shared.checkpoints import training_note
from finetune_trainer.shared.checkpoints.attempt_file import AttemptRecord, write_attempt_record
from finetune_trainer.shared.checkpoints.manifest import Manifest
from finetune_trainer.shared.volume import Layout, Run, make_folder

START = datetime(2026, 1, 1, tzinfo=UTC)


def run_config(uid: str = "u", **fields: object) -> TaskConfig:
    base: dict[str, object] = {
        "namespace": "default",
        "job": "reviews",
        "uid": uid,
        "task": "text-classification",
        "model": {"name": "/data/model"},
        "dataset": {"files": {"train": ["/data/train.csv"]}},
        "nodes": 1,
        "processes_per_node": 2,
        "accelerators": False,
        "output": "/output",
        "prepare": "job",
    }
    return TaskConfig.model_validate(base | fields)


def prepared(
    labels: tuple[str, ...] = ("bad", "good"), data: str = "a", model: str = "m", key: str = "k"
) -> PreparedTask:
    """Return the prepared data of an attempt."""
    return PreparedTask(
        config_digest="0",
        data=f"/output/.finetune/prepared/{key}",
        data_digest=data,
        model="/data/model",
        model_digest=model,
        label_names=labels,
        summary=PrepareSummary(train_rows=8, labels=labels),
    )


def begin(
    run: Run,
    attempt: int,
    known: tuple[CheckpointRef, ...] = (),
    model: str | None = None,
    resume: CheckpointRef | None = None,
) -> AttemptRecord:
    """Write the record of an attempt's beginning."""
    mark = AttemptRecord(
        uid=run.uid,
        attempt=attempt,
        begun=START + timedelta(minutes=attempt),
        addresses=("127.0.0.1:1",),
        grace_period_seconds=1,
        world_size=2,
        known=known,
        model=model,
        resume=resume,
    )
    make_folder(run.attempt(attempt).folder)
    write_attempt_record(run.attempt(attempt), mark)
    return mark


def stage(
    run: Run,
    attempt: int,
    step: int,
    trained_on: PreparedTask | None = None,
    weights: Sequence[float] | None = None,
) -> tuple[str, ...]:
    """Write the files of ranks into staging. Without `trained_on` no note names the data, as in an older release; without
    `weights` the files hold no tensors.
    """
    folder = make_folder(run.attempt(attempt).staging / f"checkpoint-{step}")
    names = ("model.safetensors", "optimizer.pt", "rng_state_0.pth")
    for name in names:
        (folder / name).write_bytes(f"{name} of step {step}".encode() * 50)
    if weights is not None:
        safetensors(folder / "model.safetensors", {"head.weight": weights})
    note = {"globalBatch": 16} | (training_note.of(trained_on) if trained_on is not None else {})
    (folder / training_note.NOTE).write_text(json.dumps(note))
    return (*names, training_note.NOTE)


def seal(
    run: Run,
    attempt: int,
    step: int,
    *,
    best: bool = False,
    trained_on: PreparedTask | None = None,
    weights: Sequence[float] | None = None,
    noted: bool = True,
) -> Path:
    """Stage, place and seal a checkpoint; not `noted`: as an older release, which did not look for values that are not finite."""
    names = stage(run, attempt, step, trained_on, weights)
    own = run.attempt(attempt)
    final = own.checkpoint(step)
    files = sealing.place(own.staging / final.name, final, names)
    if not noted:
        files = {name: file.model_copy(update={"not_finite": ()}) for name, file in files.items()}
    finite = not any(file.not_finite for file in files.values()) if noted else None
    sealing.seal(
        run,
        final,
        Manifest(step=step, attempt=attempt, world_size=2, time=START, best=best, finite=finite, files=files),
    )
    return final


def safetensors(file: Path, tensors: Mapping[str, Sequence[float]]) -> None:
    """Write tensors of single precision, as safetensors does."""
    header, data = {}, b""
    for name, values in tensors.items():
        packed = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": [len(values)], "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)


def seal_model(run: Run, attempt: int) -> Path:
    """Seal a final model; return its folder."""
    own = run.attempt(attempt)
    make_folder(own.staging / "model")
    (own.staging / "model" / "model.safetensors").write_text("weights")
    files = sealing.place(own.staging / "model", own.model, ["model.safetensors"])
    sealing.seal(run, own.model, Manifest(step=9, attempt=attempt, world_size=2, time=START, files=files))
    return own.model


def layout(folder: Path, uid: str = "u") -> Layout:
    return Layout(folder, "reviews", uid)


def two_sealed(place: Layout) -> None:
    """Leave attempt 1 with checkpoints of steps 10 and 20."""
    begin(place.run, 1)
    seal(place.run, 1, 10)
    seal(place.run, 1, 20)


def newest_good(place: Layout) -> int:
    """Return the step from which attempt 2 would go on."""
    decision = decide(place, run_config(), 2)
    assert decision.resume is not None
    return decision.resume.step
