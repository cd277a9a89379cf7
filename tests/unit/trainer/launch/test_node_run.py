"""The end of a node's life: whatever happens, a record is left."""

import asyncio
from pathlib import Path

import aiohttp

from finetune_trainer.contract.records import Outcome, Reason, ResultRecord
from finetune_trainer.launch.children import Children
from finetune_trainer.launch.launch_settings import Peer, Settings
from finetune_trainer.launch.node import Ending, Node
from finetune_trainer.launch.node_run import last_record
from finetune_trainer.launch.peers import NodeZero
from finetune_trainer.shared.volume import Layout
from tests.support.checkpoints import START, run_config


def ended_with(folder: Path, model: str) -> ResultRecord:
    """Return the record of a node that had nothing left to train, with the model that it names."""
    config = run_config(output=str(folder))
    settings = Settings(
        config=config,
        config_file=folder / "run.json",
        attempt=2,
        node=0,
        peers=(Peer("127.0.0.1", 1),),
        bind="127.0.0.1",
        termination_log=folder / "log",
    )

    async def end() -> ResultRecord:
        children = Children()
        async with aiohttp.ClientSession() as session:
            node = Node(settings, children, NodeZero(session, settings), folder)
            node.progress_state.model_path = model
            node.end(Ending.NOTHING_TO_DO, model)
            record = last_record(node, START)
            children.close()
        return record

    return asyncio.run(end())


def test_a_node_whose_record_cannot_be_made_leaves_one_that_says_so(tmp_path: Path) -> None:
    record = ended_with(tmp_path, "no path of a pod")
    assert record.failure is not None
    assert (record.outcome, record.failure.reason) == (Outcome.FAILED, Reason.INTERNAL)
    assert "ValidationError" in record.failure.message


def test_sealed_model_unreadable_at_end_costs_its_metrics(tmp_path: Path) -> None:
    """The model was read, byte by byte, when the attempt began."""
    model = Layout.of(run_config(output=str(tmp_path))).run.attempt(1).folder / "model"
    (model / "manifest.json").mkdir(parents=True)
    record = ended_with(tmp_path, str(model))
    assert (record.outcome, record.model_path, record.evaluation) == (Outcome.SUCCEEDED, str(model), None)
