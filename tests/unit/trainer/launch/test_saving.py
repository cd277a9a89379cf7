"""What node 0 hears from the other nodes counts once, however often it is said: an answer may have been lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

from finetune_trainer.config import Outcome, ResultRecord
from finetune_trainer.launch.board import Board
from finetune_trainer.launch.gang import Gang
from finetune_trainer.launch.metrics import Metrics
from finetune_trainer.launch.protocol import NodeCheckpoint
from finetune_trainer.launch.saving import Saving
from finetune_trainer.launch.settings import Peer, Settings
from tests.support.checkpoints import START, run_config


def test_a_checkpoint_is_sealed_or_given_up_once(tmp_path: Path) -> None:
    peers = (Peer("127.0.0.1", 1), Peer("127.0.0.1", 2))
    config = run_config(output=str(tmp_path), nodes=2)
    settings = Settings(config, tmp_path / "run.json", 1, 0, peers, "127.0.0.1", tmp_path / "log")
    metrics, errors = Metrics(), list[Exception]()
    reports = [NodeCheckpoint(node=0, step=2), NodeCheckpoint(node=1, step=2, problem="volume: no answer")]

    async def run() -> Path | None:
        saving = Saving(settings, Board("u", 1), metrics, errors.append)
        for report in [*reports, reports[1], *reports]:
            await saving.node_reported(report)
            await saving.idle()
        return saving.done(2).result()

    assert asyncio.run(run()) is None
    assert errors == []
    assert 'finetune_checkpoint_failures_total{reason="volume"} 1.0' in metrics.exposition().decode()


def test_an_end_is_noted_once() -> None:
    record = ResultRecord(
        role="train", uid="u", attempt=1, node=1, outcome=Outcome.SUCCEEDED, started=START, finished=START
    )

    async def run() -> list[int]:
        gang = Gang(2)
        await gang.has_ended(record)
        await gang.has_ended(record)
        await gang.all_ended()
        return list(gang.ended)

    assert asyncio.run(run()) == [1]
