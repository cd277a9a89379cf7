"""The explanation of a decision from files: what exists, how it is decided, what is done, what changes, when it is decided again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.cli.command_errors import CommandError, ExitCode
from finetune_operator.cli.explain import report, snapshot
from finetune_operator.cli.explain.snapshot import FROM_CLUSTER, Snapshot
from finetune_operator.cli.explain.trail import Call, recorded
from finetune_operator.plan.decide import decide
from finetune_operator.plan.status.unparsable_spec import unreadable_status
from finetune_operator.plan.types import Decision, Observed, PlanSettings, Ref
from finetune_operator.settings import OperatorSettings

DECISIONS_MAX = 12
"""Decisions before the plan must come to rest: each asks for something that the one before did not have."""


@dataclasses.dataclass(frozen=True)
class Explained:
    """A decision, with what it was made from."""

    observed: Observed
    decision: Decision
    calls: Sequence[Call]
    references: Sequence[Ref]
    """Objects that were looked up for it."""


def explain(paths: Sequence[str], name: str | None, at: str | None) -> ExitCode:
    """Print what the operator would decide on the job in these files. Raise CommandError where they hold none."""
    files, now = snapshot.read(paths, name), _moment(at)
    try:
        job = FineTuneJob.parse(files.body)
    except ValidationError as error:
        _require_of_cluster(error)
        status = unreadable_status(files.body, error, now)
        print("\n".join(report.unreadable(files.body, status, now)))
        return ExitCode.SUCCEEDED
    explained = decided(files, now, _settings(job))
    print("\n".join(report.lines(files, explained.observed, explained.decision, explained.calls, explained.references)))
    return ExitCode.SUCCEEDED


def decided(files: Snapshot, now: datetime, settings: PlanSettings) -> Explained:
    """Decide as the operator does: again after each look-up that the plan asks for, until it asks for no more."""
    references: list[Ref] = []
    listed = False
    for _ in range(DECISIONS_MAX):
        observed = files.observed(now, settings, references, listed=listed)
        with recorded() as calls:
            decision = decide(observed)
        unknown = [ref for ref in decision.wants_references if ref not in references]
        if not unknown and (listed or not decision.wants_list):
            return Explained(observed, decision, calls, references)
        references += unknown
        listed = listed or decision.wants_list
    raise CommandError("the plan does not come to rest; this is a defect, please report it", ExitCode.FAILED)


def _require_of_cluster(error: ValidationError) -> None:
    """Refuse a job whose metadata or status no API server would hold: only a spec may be of another version."""
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"])
        if problem["loc"][:1] != ("spec",):
            raise CommandError(
                f"{field}: {problem['msg']}: take the job from the cluster ({FROM_CLUSTER})", ExitCode.FAILED
            )


def _moment(text: str | None) -> datetime:
    """Return the time on the operator's clock: that of `--at`, or now."""
    if text is None:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(f"--at {text}: write a time as 2026-03-01T12:00:00Z") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _settings(job: FineTuneJob) -> PlanSettings:
    """Return the settings of the operator that serves the job: from its variables where they are set, else by default."""
    try:
        settings = OperatorSettings().plan()
    except ValidationError as error:
        problems = "; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors())
        raise CommandError(f"a variable FINETUNE_OPERATOR_... is wrong: {problems}") from error
    return dataclasses.replace(settings, operator=job.status.operator or "")
