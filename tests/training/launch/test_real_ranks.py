"""The real ranks under the real launch: a gang that loses a node goes on as if nothing had happened."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_trainer.contract.records import Outcome, Reason, ResultRecord
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.shared.checkpoints import manifest
from finetune_trainer.shared.checkpoints.attempt_file import read_attempt_record
from tests.support.damage import flip, replace_by_folder, tear, zero
from tests.support.launched import Launches, NodeProcess, until
from tests.support.tiny import reviews, tiny_bert, write_rows

REAL = "import sys; from finetune_trainer.__main__ import main; sys.exit(main(['launch']))"
STEPS = 60
KEPT = 3
"""The number of checkpoints that are kept."""
ARGUMENTS = {
    "max_steps": STEPS,
    "save_steps": 10,
    "save_total_limit": KEPT,
    "logging_steps": 1,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 4,
    "eval_strategy": "no",
}


class Reviews(Launches):
    """Two nodes that train a tiny model on reviews, prepared by node 0."""

    def config(self) -> TaskConfig:
        data = self.folder.parent / "data"
        files = {"train": (str(data / "train.csv"),), "validation": (str(data / "validation.csv"),)}
        dataset = {"files": files, "columns": {"text": "review", "label": "stars"}}
        model = {"name": str(data / "model")}
        base = super().config().model_dump()
        return TaskConfig.model_validate(base | {"prepare": "inline", "model": model, "dataset": dataset})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    write_rows(folder / "data" / "train.csv", reviews(400))
    write_rows(folder / "data" / "validation.csv", reviews(80, seed=1))
    tiny_bert(folder / "data" / "model", dropout=0.1)
    return folder


def started(folder: Path, name: str) -> Reviews:
    (folder / name).mkdir()
    return Reviews(folder / name, nodes=2, arguments=ARGUMENTS, start_code=REAL)


def kill(node: NodeProcess) -> None:
    os.killpg(node.process.pid, signal.SIGKILL)
    node.process.wait()


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> Iterator[tuple[bytes, ResultRecord]]:
    """Yield the final weights of a job that nothing happens to, and node 0's record."""
    job = started(folder, "undisturbed")
    try:
        records = job.run()
        assert [record.outcome for record in records] == [Outcome.SUCCEEDED, Outcome.SUCCEEDED]
        yield weights(job), records[0]
    finally:
        job.close()


def weights(job: Reviews) -> bytes:
    return (job.layout.model_link / "model.safetensors").read_bytes()


def checkpoints(job: Reviews) -> list[Path]:
    """Return the checkpoints that attempt 1 has sealed, the newest first."""
    # Not those called .partial, which have a manifest and are about to be sealed.
    manifests = job.layout.run.attempt(1).checkpoints.glob("checkpoint-*[0-9]/manifest.json")
    return sorted((file.parent for file in manifests), key=lambda folder: -int(folder.name.split("-")[1]))


def test_a_lost_node_costs_no_more_than_the_steps_since_the_checkpoint(
    folder: Path, undisturbed: tuple[bytes, ResultRecord]
) -> None:
    disturbed = started(folder, "disturbed")
    try:
        first, second = disturbed.start()
        until(lambda: checkpoints(disturbed))
        kill(second)
        assert first.wait() == 1
        lost = first.record()
        assert lost.failure is not None
        assert lost.failure.reason is Reason.PEER_LOST, first.text()
        assert lost.checkpoint is not None
        assert lost.checkpoint.step < STEPS

        again = disturbed.run(2)
        assert [record.outcome for record in again] == [Outcome.SUCCEEDED, Outcome.SUCCEEDED]
        assert again[0].step == STEPS
        assert again[0].evaluation == undisturbed[1].evaluation
        assert f"checkpoint-{lost.checkpoint.step}" in disturbed.started[2].text()
        assert weights(disturbed) == undisturbed[0]
    finally:
        disturbed.close()


def poison(checkpoint: Path) -> None:
    """Set a number of the weights to NaN, as if an older release, which did not look, had sealed it."""
    file = checkpoint / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-4:] = b"\x00\x00\xc0\x7f"
    file.write_bytes(content)
    sealed = manifest.read(checkpoint)
    assert sealed is not None
    assert sealed.finite
    files = sealed.files | {file.name: manifest.digest(file)}
    manifest.write(checkpoint, sealed.model_copy(update={"finite": None, "files": files}))


def test_volume_changed_between_attempts_changes_no_weights(
    folder: Path, undisturbed: tuple[bytes, ResultRecord]
) -> None:
    """What becomes of the volume between two attempts changes no weights."""
    disturbed = started(folder, "damaged")
    own = disturbed.layout.run.attempt(1)
    try:
        nodes = disturbed.start()
        until(lambda: len(checkpoints(disturbed)) >= KEPT)
        for node in nodes:
            kill(node)
        shutil.rmtree(own.model, ignore_errors=True)  # on a machine that was slow to kill
        newest, second, third, *_ = checkpoints(disturbed)
        flip(newest / "optimizer.pt")
        poison(second)
        zero(own.record_file)
        replace_by_folder(own.secret)
        tear(disturbed.layout.run.config)

        record, _ = disturbed.run(2)
        assert record.outcome is Outcome.SUCCEEDED, disturbed.started[2].text()
        messages = " ".join(record.messages)
        assert f"{newest.name} was damaged (the content of optimizer.pt has changed" in messages
        assert f"{second.name} holds numbers that are not finite (model.safetensors: " in messages
        begun = read_attempt_record(disturbed.layout.run.attempt(2))
        assert begun is not None
        assert begun.resume is not None
        assert begun.resume.path.endswith(third.name)
        assert weights(disturbed) == undisturbed[0]
        assert manifest.problem(disturbed.layout.run.broken / f"attempt-1-{newest.name}") is not None
    finally:
        disturbed.close()
