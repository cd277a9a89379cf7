"""The cost of attempts: restarts by cause, the budget of crashes, how long the next attempt waits.

All of it lives in status, and each attempt is accounted for once, in order, when the evidence of its end is in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.plan.observed.diagnosis import Diagnosis, Verdict, diagnose
from finetune_operator.plan.observed.gang import Gang
from finetune_operator.plan.stages.round import Round
from finetune_operator.plan.stages.step import evidence_patience, failure, retry_delay
from finetune_trainer.contract.records import Cause


@dataclass(frozen=True)
class Accounts:
    """The status after attempts were accounted for, and what ends the job, if one of them does."""

    status: FineTuneJobStatus
    attempt: int | None = None
    """Attempt whose end is the job's."""
    fatal: Diagnosis | None = None
    """Diagnosis that ended the job: a user's error, or one crash too many."""
    over_budget: bool = False


def charge_finished_attempts(round: Round, current: int, *, over: bool) -> Accounts:
    """Account for the attempts before `current`, as far as their evidence is in, or the time for it is.

    `over`: whether the present attempt has ended too. Its end is accounted for next, so nothing before it may wait any longer.
    """
    for attempt in range(round.status.budget.settled_attempt + 1, current):
        verdict = diagnose(round.attempt(attempt))
        started = round.status.attempt_started
        waited = started is None or round.now - started >= evidence_patience(round.settings)
        if not (verdict.final or waited or over or attempt < current - 1):
            break
        accounts = charge(round, attempt, verdict.diagnosis)
        if accounts.fatal is not None:
            return accounts
        round = round.with_status(accounts.status)
    return Accounts(round.status)


def charge(round: Round, attempt: int, diagnosis: Diagnosis) -> Accounts:
    """Account for the end of one attempt: its cause pays, or the job ends by it."""
    accounted = round.with_budget(settled_attempt=attempt).with_fields(failure=failure(diagnosis, attempt))
    if diagnosis.cause is Cause.USER:
        return Accounts(accounted.status, attempt, diagnosis)
    if diagnosis.counts and not affordable(round, attempt):
        return Accounts(accounted.status, attempt, diagnosis, over_budget=True)
    name, restarts = diagnosis.cause.value, round.status.restarts
    restarts = restarts.model_copy(update={name: getattr(restarts, name) + 1})
    accounted = accounted.with_fields(restarts=restarts)
    if _got_on(round.status, attempt):
        accounted = accounted.with_budget(errors_before=restarts.error)
    return Accounts(accounted.status)


def affordable(round: Round, attempt: int) -> bool:
    """Return whether a crash of an attempt leaves the job another one: crashes since the last new checkpoint are counted."""
    status = round.status
    crashes = 0 if _got_on(status, attempt) else status.restarts.error - status.budget.errors_before
    return crashes < round.job.spec.backoff_limit


def _got_on(status: FineTuneJobStatus, attempt: int) -> bool:
    """Return whether an attempt, or one after it, has sealed a checkpoint of a later step than all before."""
    return status.budget.checkpoint_attempt >= attempt


def may_go_on(round: Round, verdict: Verdict, attempt: int) -> bool:
    """Return whether the next attempt may start before the cause is certain.

    It may, unless it would have to be stopped at once: a user's error, or no crash left to pay with.
    """
    if verdict.diagnosis.cause is Cause.USER:
        return False
    return not verdict.diagnosis.counts or affordable(round, attempt)


def close_attempt(round: Round, gang: Gang) -> Round:
    """Note how far an attempt got that is over, and whether that was farther than any before."""
    status, progress = round.status, round.progress(gang.number)
    steps = [record.step for record in gang.records.values()]
    steps.append(progress.step if progress else None)
    if status.attempt == gang.number and status.attempt_begun and status.progress:
        steps.append(status.progress.step)
    reached = max((step for step in steps if step is not None), default=0)
    furthest = status.budget.furthest_step
    return round.with_budget(
        furthest_step=max(reached, furthest), fruitless=0 if reached > furthest else status.budget.fruitless + 1
    )


def pause(status: FineTuneJobStatus, *, gave_up: bool) -> timedelta:
    """Return how long the next attempt waits after the present one has ended.

    The first restart comes at once, and so does each after an attempt that got farther. Attempts in a row that get
    nowhere wait longer and longer, whatever ended them: most repeat what will happen again. One that was given up
    because its pods did not start waits from the first time: whoever else needs the resources gets a turn.
    """
    return retry_delay(status.budget.fruitless if gave_up else status.budget.fruitless - 1)


def ended_at(gang: Gang, now: datetime) -> datetime:
    """Return when a gang began to fall, as its pods show."""
    moments = [
        moment
        for pod in gang.pods
        if not pod.succeeded
        for moment in (pod.deleted_at, pod.trainer.ended_at if pod.trainer else None)
        if moment is not None
    ]
    return min([*moments, now])
