"""The command `python -m finetune_trainer prepare`: it prepares, and tells its outcome by a result record and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import overload

from finetune_trainer.contract.prepared import Prepared, PreparedTask
from finetune_trainer.contract.records import (
    Cause,
    Exit,
    Failure,
    Outcome,
    Reason,
    ResultRecord,
)
from finetune_trainer.contract.run_config import Env, ScriptConfig, TaskConfig, parse_run_config
from finetune_trainer.contract.text import log_line
from finetune_trainer.shared import connections, startup
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.hub.environment import environment
from finetune_trainer.shared.result_record import leave_for_kubelet
from finetune_trainer.shared.volume import DISK_FULL, Layout, explain, has_worked, is_of_volume

LAST_LINES = 12


def main() -> int:
    """Prepare the run of FINETUNE_CONFIG."""
    started = datetime.now(UTC)
    # Process 1 of a container is not ended by a signal that it does not handle. An exit also removes what was begun.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(Exit.STOPPED))
    config = parse_run_config(Path(os.environ[Env.CONFIG]).read_text(encoding="utf-8"))
    os.environ.update({**connections.environment(os.environ), **environment(config.hub, Layout.of(config).hub_cache)})
    if config.dataset is not None and config.dataset.name is None:
        startup.use_arrow_without_pandas()
    first_attempt = os.environ.get(Env.FIRST_ATTEMPT)  # set where a node of an attempt prepares
    outcome = attempt(config, import_transformers, None if first_attempt is None else int(first_attempt))
    failure = outcome if isinstance(outcome, Failure) else None
    prepared = outcome if isinstance(outcome, Prepared) else None
    record = ResultRecord(
        role="prepare",
        uid=config.uid,
        attempt=int(os.environ.get(Env.ATTEMPT, "1")),
        outcome=Outcome.FAILED if failure else Outcome.SUCCEEDED,
        failure=failure,
        started=started,
        finished=datetime.now(UTC),
        resolved=prepared.resolved if prepared else None,
        prepared=prepared.summary if prepared else None,
        messages=prepared.messages if prepared else (),
    )
    leave_for_kubelet(record)
    return Exit.FAILED if failure else Exit.SUCCEEDED


def import_transformers() -> None:
    """Import transformers, which makes tokens, without torch."""
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    with startup.without_torch():
        from transformers import AutoConfig, AutoTokenizer  # noqa: F401
        from transformers.utils import is_torch_available

        is_torch_available()  # transformers remembers the answer


@overload
def attempt(
    config: TaskConfig, before_model: Callable[[], None] = ..., first_attempt: int | None = None
) -> PreparedTask | Failure: ...


@overload
def attempt(
    config: ScriptConfig, before_model: Callable[[], None] = ..., first_attempt: int | None = None
) -> Prepared | Failure: ...


def attempt(
    config: TaskConfig | ScriptConfig,
    before_model: Callable[[], None] = lambda: None,
    first_attempt: int | None = None,
) -> Prepared | Failure:
    """Prepare; an expected failure is a value. `before_model` is called once the model of a task has to be looked at."""
    try:
        prepared = _prepared(config, before_model, first_attempt)
    except ExpectedError as error:
        log_line("prepare", f"{error.failure.reason}: {error}")
        return error.failure
    except OSError as error:
        layout = Layout.of(config)
        if error.errno in DISK_FULL or is_of_volume(error, layout.output):
            return explain(error, layout.output, worked=has_worked(layout))
        return unexpected(error)
    except MemoryError:
        return Failure(reason=Reason.OUT_OF_MEMORY, cause=Cause.ERROR, message="Preparing the data ran out of memory.")
    except Exception as error:  # noqa: BLE001 - the outermost frame: the record must say what it was
        return unexpected(error)
    for message in prepared.messages:
        log_line("prepare", message)
    return prepared


def _prepared(
    config: TaskConfig | ScriptConfig, before_model: Callable[[], None], first_attempt: int | None
) -> Prepared:
    if isinstance(config, ScriptConfig):
        from finetune_trainer.prepare import script_run

        return script_run.prepare(config, first_attempt)
    from finetune_trainer.prepare import prepare_run, summary

    prepared = prepare_run.prepare(config, before_model, first_attempt)
    for line in summary.lines(prepared.splits):
        log_line("prepare", line)
    return prepared


def unexpected(error: Exception) -> Failure:
    """Make the failure of an unexpected error: the log holds its whole traceback, the record the last lines."""
    lines = "".join(traceback.format_exception(error)).strip().splitlines()
    log_line("prepare", "\n".join(lines), lines=True)
    return Failure(reason=Reason.INTERNAL, cause=Cause.ERROR, message="\n".join(lines[-LAST_LINES:]))
