"""Where the prepared data comes from: a Job before training left it, or node 0 prepares beside the ranks' imports."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import structlog
from pydantic import ValidationError

from finetune_trainer.config import Cause, Env, Failure, Outcome, Prepared, Reason, ResultRecord
from finetune_trainer.launch.children import Children
from finetune_trainer.launch.output import Tail, follow
from finetune_trainer.launch.settings import Settings
from finetune_trainer.volume import Run, read_document

log = structlog.get_logger()


def left_by_job(run: Run) -> Prepared | Failure:
    """What the prepare Job left on the volume."""
    try:
        prepared = read_document(run.prepared, Prepared)
    except ValidationError as error:
        return _failure(f"{run.prepared} can't be read: {error}")
    return prepared or _failure(f"{run.prepared} is not there: the prepare step of this run has left nothing here.")


async def inline(settings: Settings, children: Children, temporary: Path) -> Prepared | Failure:
    """Prepare in a child process, and read what it left."""
    record_file = temporary / "prepare.json"
    env = dict(os.environ) | {
        Env.CONFIG: str(settings.config_file),
        Env.ATTEMPT: str(settings.attempt),
        Env.TERMINATION_LOG: str(record_file),
    }
    child = await children.start([sys.executable, "-m", "finetune_trainer", "prepare"], env)
    if child.stdout is None:
        raise RuntimeError("prepare was started without a pipe")
    tail = Tail()
    await follow(child.stdout, tail, echo=True)
    code = await child.wait()
    record = read_document(record_file, ResultRecord)
    if record is not None and record.failure is not None:
        return record.failure
    if code != 0 or record is None or record.outcome is not Outcome.SUCCEEDED:
        return _failure(f"prepare ended with exit code {code}. Last lines:\n{tail.text()}", code)
    log.info("prepared")
    return await asyncio.to_thread(left_by_job, settings.layout.run)


def _failure(message: str, exit_code: int | None = None) -> Failure:
    return Failure(reason=Reason.INTERNAL, cause=Cause.ERROR, message=message, exit_code=exit_code)
