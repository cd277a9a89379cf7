"""The prepared data: a Job before training has left it, or node 0 prepares it beside the imports of the ranks.

Each node compares the data with its digests before its ranks get it, while the ranks import their modules.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import structlog

from finetune_trainer.contract.prepared import Prepared
from finetune_trainer.contract.records import Cause, Failure, Outcome, Reason, ResultRecord
from finetune_trainer.contract.run_config import Env
from finetune_trainer.launch.children import Children
from finetune_trainer.launch.launch_settings import Settings
from finetune_trainer.launch.output import Tail, follow
from finetune_trainer.shared import data_digests
from finetune_trainer.shared.paths import to_local, to_pod
from finetune_trainer.shared.volume import Run, read_checked, read_document

log = structlog.get_logger()

ERROR_MAX = 300


def left_by_job(run: Run) -> Prepared | Failure:
    """Return what the prepare step left on the volume."""
    try:
        prepared = read_checked(run.prepared, Prepared)
    except (OSError, ValueError) as error:
        return _damaged(f"{to_pod(run.prepared)} can't be read: {str(error)[:ERROR_MAX]}")
    return prepared or _damaged(f"{to_pod(run.prepared)} is not there: what the prepare step left is gone.")


def checked(prepared: Prepared | Failure) -> Prepared | Failure:
    """Return the prepared data once every byte of it was read and agrees with its digest; else a failure."""
    if (
        isinstance(prepared, Failure) or prepared.data is None or prepared.data_digest is None
    ):  # an older release noted none
        return prepared
    problem = data_digests.problem(to_local(prepared.data), prepared.data_digest)
    if problem is None:
        return prepared
    return _damaged(f"The prepared data at {prepared.data} can't be used: {problem}. It is made again.")


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
        message = f"prepare ended with exit code {code}. Last lines:\n{tail.text()}"
        return Failure(reason=Reason.INTERNAL, cause=Cause.ERROR, message=message, exit_code=code)
    log.info("prepared")
    prepared = await asyncio.to_thread(left_by_job, settings.layout.run)
    if isinstance(prepared, Failure):
        return prepared
    # Messages about this try alone are only in its record, where they may be cut.
    more = (text for text in record.messages if not any(known.startswith(text) for known in prepared.messages))
    return prepared.model_copy(update={"messages": (*more, *prepared.messages)})


def _damaged(message: str) -> Failure:
    return Failure(reason=Reason.PREPARED_DAMAGED, cause=Cause.VOLUME, message=message)
