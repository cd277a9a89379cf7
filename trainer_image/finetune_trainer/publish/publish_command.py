"""The command `python -m finetune_trainer publish`: publish in a thread, watch over it, leave a record.

The main thread only waits, so that SIGTERM ends it at once and the deadline in time, whatever a library is busy with.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from finetune_trainer.contract.records import Cause, Exit, Failure, Outcome, PublishedModel, Reason, ResultRecord
from finetune_trainer.contract.run_config import Env, RunConfig, ScriptConfig, TaskConfig, parse_run_config
from finetune_trainer.contract.text import log_line
from finetune_trainer.publish.retries import BACKOFF
from finetune_trainer.shared import connections
from finetune_trainer.shared.result_record import leave_for_kubelet
from finetune_trainer.shared.volume import Layout, concerns, explain, make_folder, write_document

LAST_LINES = 12
TELL_SECONDS = 15.0
SILENT_TELLS = 20
"""Number of looks without progress after which a line says that it goes on: bytes that Xet sends are not counted."""
OVERTIME_SECONDS = 15.0
"""The time that a try which began before the deadline may take beyond it."""


def say(text: str) -> None:
    """Write one line of the log."""
    log_line("publish", text, lines=True)


@dataclass
class Result:
    """The result that the thread leaves for the main one."""

    over: threading.Event = field(default_factory=threading.Event)
    stopped: bool = False
    hub: PublishedModel | None = None
    failure: Failure | None = None

    def stop(self, *_: object) -> None:
        """Stop at a SIGTERM."""
        self.stopped = True
        self.over.set()


def main() -> int:
    """Publish the run of FINETUNE_CONFIG."""
    result = Result()
    signal.signal(signal.SIGTERM, result.stop)  # process 1 ignores it otherwise
    started = datetime.now(UTC)
    config = parse_run_config(Path(os.environ[Env.CONFIG]).read_text(encoding="utf-8"))
    os.environ.update(environment(config))
    from finetune_trainer.publish.publish_run import deadline_of

    deadline = deadline_of(config, os.environ.get(Env.DEADLINE), started)
    worker = threading.Thread(target=work, args=(config, deadline, result), daemon=True)
    worker.start()
    result.over.wait(max(0.0, (deadline - started).total_seconds()) + OVERTIME_SECONDS)
    record = record_of(config, result, started)
    leave(config, record)
    code = {Outcome.SUCCEEDED: Exit.SUCCEEDED, Outcome.STOPPED: Exit.STOPPED}.get(record.outcome, Exit.FAILED)
    sys.stdout.flush()
    sys.stderr.flush()
    if worker.is_alive():
        os._exit(code)  # a return would wait for a request that is under way
    return code


def environment(config: RunConfig) -> dict[str, str]:
    """Return the variables that huggingface_hub reads when it is imported."""
    from finetune_trainer.shared.hub.environment import environment as hub_environment

    trusted = connections.environment(os.environ)
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_VERBOSITY": "error", "HF_HUB_OFFLINE": "0"}
    return {**trusted, **hub_environment(config.hub, Layout.of(config).hub_cache), **quiet}


def work(config: TaskConfig | ScriptConfig, deadline: datetime, result: Result) -> None:
    """Publish in a thread, and leave the result."""
    try:
        from finetune_trainer.publish.publish_run import publish, size
        from finetune_trainer.shared.hub.http_client import Traffic, monotonic_deadline

        traffic = Traffic()
        tell_of(lambda: f"{size(traffic.sent)} sent" if traffic.sent else "", result.over)
        result.hub = publish(config, replace(BACKOFF, deadline=monotonic_deadline(deadline)), traffic, say)
    except Exception as error:  # noqa: BLE001 - the outermost frame: the record must say what it was
        result.failure = failure_of(error, config)
        say(f"{result.failure.reason}: {result.failure.message}")
    result.over.set()


def tell_of(state: Callable[[], str], over: threading.Event) -> None:
    """Write a line now and then on how far the upload is, seldom while that does not change."""

    def tell() -> None:
        last, silent = "", 0
        while not over.wait(TELL_SECONDS):
            now, silent = state(), silent + 1
            if now != last or silent == SILENT_TELLS:
                say(now or "under way")
                last, silent = now, 0

    threading.Thread(target=tell, daemon=True).start()


def failure_of(error: Exception, config: RunConfig) -> Failure:
    """Return the failure that an exception means."""
    from finetune_trainer.shared.failures import ExpectedError
    from finetune_trainer.shared.hub.refusals import clean

    if isinstance(error, ExpectedError):
        return error.failure
    output = Layout.of(config).output
    if isinstance(error, OSError) and error.filename is not None and concerns(error, output):
        return explain(error, output)
    lines = "".join(traceback.format_exception(error)).strip().splitlines()
    say("\n".join(lines))
    return Failure(
        reason=Reason.INTERNAL, cause=Cause.ERROR, message="\n".join(clean(line) for line in lines[-LAST_LINES:])
    )


def record_of(config: RunConfig, result: Result, started: datetime) -> ResultRecord:
    """Return the record of the end: with a result, stopped, or with the time over."""
    failure = result.failure
    if result.hub is None and failure is None and not result.stopped:
        failure = Failure(
            reason=Reason.HUB_UNAVAILABLE,
            cause=Cause.ERROR,
            message=f"Publishing was not over {OVERTIME_SECONDS:.0f} s after its deadline: a request is still under way.",
        )
    outcome = Outcome.SUCCEEDED if result.hub else Outcome.FAILED if failure else Outcome.STOPPED
    if outcome is Outcome.STOPPED:
        say("stopped")
    return ResultRecord(
        role="publish",
        uid=config.uid,
        attempt=int(os.environ.get(Env.ATTEMPT, "1")),
        outcome=outcome,
        failure=failure,
        started=started,
        finished=datetime.now(UTC),
        hub=result.hub,
    )


def leave(config: RunConfig, record: ResultRecord) -> None:
    """Leave the record on the volume for people, and in the termination log for the operator, even if the volume is full."""
    file = Layout.of(config).run.publish_record
    try:
        make_folder(file.parent)
        write_document(file, record)
    except OSError as error:
        say(f"the record could not be written to the volume: {error}")
    leave_for_kubelet(record)
