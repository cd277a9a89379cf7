"""The command `python -m finetune_trainer script`: run the user's program as one rank, report the result to `launch`, and end."""

from __future__ import annotations

import atexit
import os
import traceback
from pathlib import Path
from typing import NoReturn

from finetune_trainer.contract.launch_protocol import RankModel, RankResult
from finetune_trainer.contract.prepared import Prepared
from finetune_trainer.contract.records import Outcome
from finetune_trainer.contract.run_config import Env, ScriptConfig
from finetune_trainer.contract.script import ScriptEnv
from finetune_trainer.script import model_files, program, program_failures
from finetune_trainer.shared.launch_client import LaunchClient, LaunchError
from finetune_trainer.shared.parent_death import die_with_parent
from finetune_trainer.shared.volume import Layout


def main() -> NoReturn:
    """Run the rank that the launcher's environment describes."""
    die_with_parent()  # a program that outlives its launch would write into the OUTPUT_DIR of the next attempt
    rank = int(os.environ.get("RANK") or os.environ[ScriptEnv.NODE_RANK])
    config = ScriptConfig.model_validate_json(Path(os.environ[Env.CONFIG]).read_text(encoding="utf-8"))
    client = LaunchClient.from_environment()
    client.end(_run(config, client, rank))


def _run(config: ScriptConfig, client: LaunchClient, rank: int) -> RankResult:
    try:
        prepared = client.prepared(Prepared) if config.prepare != "none" else Prepared(config_digest="")
        try:
            program.run(config, prepared)
        except SystemExit as error:
            if not program_failures.is_success(error):
                raise
        atexit._run_exitfuncs()
        if client.is_stopping():
            return RankResult(rank=rank, outcome=Outcome.STOPPED)
        step = _hand_over(config, client) if rank == 0 else None
    except BaseException as error:  # noqa: BLE001 - the outermost frame: launch must hear of it, whatever it was
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        failure = program_failures.failure_of(error, rank, config)
        return RankResult(rank=rank, outcome=Outcome.FAILED, failure=failure)
    return RankResult(rank=rank, outcome=Outcome.SUCCEEDED, step=step)


def _hand_over(config: ScriptConfig, client: LaunchClient) -> int | None:
    """Hand the model over to `launch`, which seals it, once the program has ended well everywhere. Raises ExpectedError where it has
    not, or has left nothing.
    """
    try:
        client.others_ended()
    except LaunchError as error:
        raise program_failures.of_others(error.status, error.answer) from error
    run = Layout.of(config).run
    attempt = run.attempt(int(os.environ[Env.ATTEMPT]))
    step = max(filter(None, (client.step(), model_files.trainer_step(run))), default=None)
    files = model_files.stage(run, config.script.model_output, attempt.staging / "model")
    if not files:
        raise program_failures.nothing_left(config.script, trained=step is not None)
    client.model(RankModel(files=tuple(files), step=step or 0))
    return step
