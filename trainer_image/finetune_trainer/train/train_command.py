"""The command `python -m finetune_trainer train`: train as one rank, report the result to `launch`, and end at once."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import NoReturn

from finetune_trainer.contract.launch_protocol import RankResult
from finetune_trainer.contract.records import Failure, Outcome
from finetune_trainer.contract.run_config import Env, TaskConfig
from finetune_trainer.shared import startup
from finetune_trainer.shared.launch_client import LaunchClient
from finetune_trainer.shared.paths import to_local


def main() -> NoReturn:
    """Run the rank that torchrun's environment describes."""
    rank = int(os.environ["RANK"])
    config = TaskConfig.model_validate_json(Path(os.environ[Env.CONFIG]).read_text(encoding="utf-8"))
    client = LaunchClient.from_environment()
    client.end(_run(config, client, rank))


def _run(config: TaskConfig, client: LaunchClient, rank: int) -> RankResult:
    from finetune_trainer.shared.rank_failures import failure_of
    from finetune_trainer.train.progress_reporter import Reporter

    reporter = Reporter(client, active=rank == 0)
    startup.hide_packages(keep=startup.packages_of(config))
    try:
        with startup.without_garbage_collection():
            from finetune_trainer.train.recipe import train

        trained = train(config, client, reporter)
    except BaseException as error:  # noqa: BLE001 - the outermost frame: launch must hear of it, whatever it was
        traceback.print_exc()
        failure: Failure = failure_of(error, rank, to_local(config.output))
        reporter.close()
        return RankResult(rank=rank, outcome=Outcome.FAILED, failure=failure)
    reporter.close()
    return RankResult(rank=rank, outcome=Outcome.SUCCEEDED, step=trained.step, evaluation=trained.evaluation)
