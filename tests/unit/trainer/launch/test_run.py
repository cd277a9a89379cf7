"""The end of a node's life: whatever happens, a record is left."""

import asyncio
from pathlib import Path

import aiohttp

from finetune_trainer.config import Outcome, Reason, ResultRecord
from finetune_trainer.launch.children import Children
from finetune_trainer.launch.node import Ending, Node
from finetune_trainer.launch.peers import NodeZero
from finetune_trainer.launch.run import last_record
from finetune_trainer.launch.settings import Peer, Settings
from finetune_trainer.volume import Layout
from tests.support.checkpoints import START, run_config


def test_a_node_whose_sealed_model_cannot_be_read_at_the_end_leaves_a_record(tmp_path: Path) -> None:
    config = run_config(output=str(tmp_path))
    settings = Settings(
        config=config,
        config_file=tmp_path / "run.json",
        attempt=2,
        node=0,
        peers=(Peer("127.0.0.1", 1),),
        bind="127.0.0.1",
        termination_log=tmp_path / "log",
    )
    model = Layout.of(config).run.attempt(1).folder / "model"
    (model / "manifest.json").mkdir(parents=True)

    async def end() -> ResultRecord:
        children = Children()
        async with aiohttp.ClientSession() as session:
            node = Node(settings, children, NodeZero(session, settings), tmp_path)
            node.board.model_path = str(model)
            node.end(Ending.NOTHING_TO_DO, str(model))
            record = last_record(node, START)
            children.close()
        return record

    record = asyncio.run(end())
    assert record.failure is not None
    assert (record.outcome, record.failure.reason) == (Outcome.FAILED, Reason.INTERNAL)
    assert "IsADirectoryError" in record.failure.message
