"""The real ranks under the real launch: a gang that loses a node goes on as if nothing had happened."""

import os
import signal
from pathlib import Path

import pytest

from finetune_trainer.config import Outcome, Reason, RunConfig
from tests.support.launched import Launches, NodeProcess, until
from tests.support.tiny import reviews, tiny_bert, write_rows

REAL = "import sys; from finetune_trainer.__main__ import main; sys.exit(main(['launch']))"
STEPS = 60
ARGUMENTS = {
    "max_steps": STEPS,
    "save_steps": 10,
    "logging_steps": 1,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 4,
    "eval_strategy": "no",
}


class Reviews(Launches):
    """Two nodes that train a tiny model on reviews, prepared by node 0."""

    def config(self) -> RunConfig:
        data = self.folder.parent / "data"
        files = {"train": (str(data / "train.csv"),), "validation": (str(data / "validation.csv"),)}
        dataset = {"files": files, "columns": {"text": "review", "label": "stars"}}
        model = {"name": str(data / "model")}
        base = super().config().model_dump()
        return RunConfig.model_validate(base | {"prepare": "inline", "model": model, "dataset": dataset})


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


def test_a_lost_node_costs_no_more_than_the_steps_since_the_checkpoint(folder: Path) -> None:
    undisturbed, disturbed = started(folder, "undisturbed"), started(folder, "disturbed")
    try:
        records = undisturbed.run()
        assert [record.outcome for record in records] == [Outcome.SUCCEEDED, Outcome.SUCCEEDED]

        first, second = disturbed.start()
        until(lambda: any(disturbed.layout.run.attempt(1).checkpoints.glob("checkpoint-*/manifest.json")))
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
        assert again[0].evaluation == records[0].evaluation
        assert f"checkpoint-{lost.checkpoint.step}" in disturbed.started[2].text()
        weights = [(one.layout.model_link / "model.safetensors").read_bytes() for one in (undisturbed, disturbed)]
        assert weights[0] == weights[1]
    finally:
        undisturbed.close()
        disturbed.close()
