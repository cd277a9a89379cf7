"""The time in which accelerators were held, split by its use, from one written status to the next. Pure.

An attempt holds its accelerators from the moment when nodes have accepted its pods until it ends. The time before its first
step is startup. Later time is productive where a checkpoint or the model holds its result, and lost where none does. Time
that is not over when a job is deleted is not counted; an operator that starts goes on from what the last checkpoint covers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from finetune_operator.api.status import FineTuneJobStatus, Phase
from finetune_operator.plan.types import Manifest


class Use(StrEnum):
    PRODUCTIVE = "productive"
    STARTUP = "startup"
    LOST = "lost"


@dataclass(frozen=True)
class Account:
    """The attempt of a job that holds accelerators."""

    attempt: int
    trained_until: datetime | None = None
    """Moment up to which its time is accounted for; None before its first step was seen."""


@dataclass(frozen=True)
class Settled:
    """Result of accounting for one change of the status."""

    account: Account | None
    """Account to pass with the next change; None where no attempt holds accelerators."""
    seconds: dict[Use, float] = field(default_factory=dict)
    """Seconds of the attempt as a whole; multiplied by its accelerators they are accelerator seconds."""


def account_for(
    account: Account | None, before: Manifest, after: Manifest, accepted: Mapping[int, Sequence[datetime]]
) -> Settled:
    """Account for the time between two statuses. `accepted`: by attempt, when nodes accepted its pods."""
    was, now = FineTuneJobStatus.model_validate(before), FineTuneJobStatus.model_validate(after)
    account = account or _running_account(was) or _running_account(now)
    if account is None:
        return Settled(None)
    held_since = _mean(accepted.get(account.attempt, ()))
    seconds = dict.fromkeys(Use, 0.0)
    if now.attempt == account.attempt:
        account = _with_training(account, now, held_since, seconds)
    end = _end(account.attempt, was, now)
    if end is None:
        return Settled(account, seconds)
    if account.trained_until is None:
        _add(seconds, Use.STARTUP, held_since, end)
    else:
        _add(seconds, Use.LOST if now.model is None else Use.PRODUCTIVE, account.trained_until, end)
    return Settled(Account(now.attempt) if now.attempt and now.attempt > account.attempt else None, seconds)


def _running_account(status: FineTuneJobStatus) -> Account | None:
    """Return the running attempt, accounted for as far as the status itself shows."""
    ends = (status.attempt_ended, status.completion_time, status.model)
    if status.attempt is None or any(end is not None for end in ends):
        return None
    first, sealed = _last_step_time(status), status.checkpoint.time if status.checkpoint is not None else None
    begun = status.attempt_begun
    return Account(status.attempt, max(sealed, begun) if first and sealed and begun else first)


def _with_training(
    account: Account, now: FineTuneJobStatus, held_since: datetime | None, seconds: dict[Use, float]
) -> Account:
    """Return the account after the training that the status shows, and add the time of that training to `seconds`."""
    until, first = account.trained_until, _last_step_time(now)
    if until is None and first is not None:
        _add(seconds, Use.STARTUP, held_since, first)
        until = first
    sealed = now.checkpoint.time if now.checkpoint is not None else None
    if until is not None and sealed is not None and sealed > until:
        _add(seconds, Use.PRODUCTIVE, until, sealed)
        until = sealed
    return Account(account.attempt, until)


def _add(seconds: dict[Use, float], use: Use, since: datetime | None, until: datetime) -> None:
    if since is not None and until > since:
        seconds[use] += (until - since).total_seconds()


def _last_step_time(status: FineTuneJobStatus) -> datetime | None:
    """Return when the present attempt was last seen to have made a step."""
    progress, begun = status.progress, status.attempt_begun
    if begun is None or progress is None or progress.updated is None or progress.updated < begun:
        return None
    from_step = status.resumed_from.step if status.resumed_from is not None else 0
    return progress.updated if (progress.step or 0) > from_step else None


def _end(attempt: int, was: FineTuneJobStatus, now: FineTuneJobStatus) -> datetime | None:
    """Return when the attempt gave its accelerators back; None while it holds them."""
    if now.attempt is not None and now.attempt > attempt:
        return was.attempt_ended or now.attempt_started
    if now.model is not None and was.model is None:
        return now.progress.updated if now.progress is not None else now.completion_time
    return now.completion_time if now.phase is Phase.FAILED else now.attempt_ended


def _mean(moments: Sequence[datetime]) -> datetime | None:
    """Return the mean of some moments; None where there are no moments."""
    seconds = [moment.timestamp() for moment in moments]
    return datetime.fromtimestamp(sum(seconds) / len(seconds), UTC) if seconds else None
