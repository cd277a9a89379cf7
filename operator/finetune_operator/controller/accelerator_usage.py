"""What accelerators were used for, told from one written status to the next. Pure.

An attempt holds its accelerators from when nodes took its pods in until it ends. Until its first step that is startup;
then, what is sealed in a checkpoint or in the model was productive, and what an attempt did beyond that is lost. What was
under way when a job is deleted is not told; an operator that starts anew goes on from what the last checkpoint settled.
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
    """Up to then its time is accounted for; None before its first step was seen."""


@dataclass(frozen=True)
class Settled:
    """What one change of the status tells."""

    account: Account | None
    """To be given with the next change; None where no attempt is under way."""
    seconds: dict[Use, float] = field(default_factory=dict)
    """Of an attempt as a whole: times its accelerators they are accelerator seconds."""


def account_for(
    account: Account | None, before: Manifest, after: Manifest, taken: Mapping[int, Sequence[datetime]]
) -> Settled:
    """Account for the time between two statuses. `taken`: by attempt, when nodes took its pods in."""
    was, now = FineTuneJobStatus.model_validate(before), FineTuneJobStatus.model_validate(after)
    account = account or _opened(was) or _opened(now)
    if account is None:
        return Settled(None)
    held = _mean(taken.get(account.attempt, ()))
    seconds = dict.fromkeys(Use, 0.0)
    if now.attempt == account.attempt:
        account = _trained(account, now, held, seconds)
    end = _end(account.attempt, was, now)
    if end is None:
        return Settled(account, seconds)
    if account.trained_until is None:
        _add(seconds, Use.STARTUP, held, end)
    else:
        _add(seconds, Use.LOST if now.model is None else Use.PRODUCTIVE, account.trained_until, end)
    return Settled(Account(now.attempt) if now.attempt and now.attempt > account.attempt else None, seconds)


def _opened(status: FineTuneJobStatus) -> Account | None:
    """The attempt that is under way, accounted for as far as the status itself tells."""
    over = (status.attempt_ended, status.completion_time, status.model)
    if status.attempt is None or any(one is not None for one in over):
        return None
    first, sealed = _stepped(status), status.checkpoint.time if status.checkpoint is not None else None
    begun = status.attempt_begun
    return Account(status.attempt, max(sealed, begun) if first and sealed and begun else first)


def _trained(account: Account, now: FineTuneJobStatus, held: datetime | None, seconds: dict[Use, float]) -> Account:
    until, first = account.trained_until, _stepped(now)
    if until is None and first is not None:
        _add(seconds, Use.STARTUP, held, first)
        until = first
    sealed = now.checkpoint.time if now.checkpoint is not None else None
    if until is not None and sealed is not None and sealed > until:
        _add(seconds, Use.PRODUCTIVE, until, sealed)
        until = sealed
    return Account(account.attempt, until)


def _add(seconds: dict[Use, float], use: Use, since: datetime | None, until: datetime) -> None:
    if since is not None and until > since:
        seconds[use] += (until - since).total_seconds()


def _stepped(status: FineTuneJobStatus) -> datetime | None:
    """When the present attempt was last seen to have made a step."""
    progress, begun = status.progress, status.attempt_begun
    if begun is None or progress is None or progress.updated is None or progress.updated < begun:
        return None
    from_step = status.resumed_from.step if status.resumed_from is not None else 0
    return progress.updated if (progress.step or 0) > from_step else None


def _end(attempt: int, was: FineTuneJobStatus, now: FineTuneJobStatus) -> datetime | None:
    """When the attempt gave its accelerators back; None while it holds them."""
    if now.attempt is not None and now.attempt > attempt:
        return was.attempt_ended or now.attempt_started
    if now.model is not None and was.model is None:
        return now.progress.updated if now.progress is not None else now.completion_time
    return now.completion_time if now.phase is Phase.FAILED else now.attempt_ended


def _mean(moments: Sequence[datetime]) -> datetime | None:
    """None where there is none."""
    seconds = [moment.timestamp() for moment in moments]
    return datetime.fromtimestamp(sum(seconds) / len(seconds), UTC) if seconds else None
