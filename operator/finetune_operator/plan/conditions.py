"""Conditions of a FineTuneJob: made from facts, with transition times that stay as long as the status of a condition does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from finetune_operator.api.status import Condition, ConditionType, FineTuneJobStatus, Phase

MESSAGE_MAX = 4096
TERMINAL = frozenset({Phase.SUCCEEDED, Phase.FAILED})
STATED = frozenset(
    {
        ConditionType.VALIDATED,
        ConditionType.PREPARED,
        ConditionType.RUNNING,
        ConditionType.PUBLISHED,
        ConditionType.CHECKPOINT_LOST,
    }
)
"""Conditions that a step states itself; the others follow from the phase."""


@dataclass(frozen=True)
class Fact:
    """Content of a condition: whether it holds (None is Unknown), reason and message."""

    holds: bool | None
    reason: str
    message: str


Facts = Mapping[ConditionType, Fact]
NOT_YET = Fact(None, "NotYet", "not there yet")
VALID = Fact(True, "Valid", "the spec is valid and what it names is there")


def find(status: FineTuneJobStatus, kind: ConditionType) -> Condition | None:
    """Find the condition of a type; None where the status has none."""
    return next((condition for condition in status.conditions if condition.type is kind), None)


def holds(status: FineTuneJobStatus, kind: ConditionType) -> bool:
    """Return whether a condition is there and True."""
    condition = find(status, kind)
    return condition is not None and condition.status == "True"


def build(
    status: FineTuneJobStatus, stated: Facts, generation: int, now: datetime, *, publishes: bool = True
) -> tuple[Condition, ...]:
    """Make all conditions for the phase of `status`; its present conditions tell which of them flip and which stay.

    A job that does not publish has no condition Published, and one that never lost a checkpoint no CheckpointLost.
    """
    facts = {kind: stated.get(kind) or _kept(status, kind) for kind in ConditionType if kind in STATED}
    verdict = stated.get(ConditionType.FAILED)
    facts |= _derived(status, facts, verdict.reason if verdict else _failed_reason(status))
    unshown = set() if publishes else {ConditionType.PUBLISHED}
    if facts[ConditionType.CHECKPOINT_LOST] == NOT_YET:
        unshown.add(ConditionType.CHECKPOINT_LOST)
    shown = (kind for kind in ConditionType if kind not in unshown)
    return tuple(_condition(find(status, kind), kind, facts[kind], generation, now) for kind in shown)


UNDER_WAY = frozenset(
    {"Preparing", "PreparingData", "Inline", "Starting", "WaitingForNodes", "LoadingModel", "Publishing", "NotYet"}
)
"""Reasons of a condition that does not hold yet, while all is well."""
ADVICE_BEGINS = " What to do: "
_NEVER_CAME: Mapping[ConditionType, tuple[str, str]] = {
    ConditionType.VALIDATED: ("NotValidated", "the job ended before its spec was found to be valid"),
    ConditionType.PREPARED: ("NotPrepared", "the job ended before model and data were known to be prepared"),
    ConditionType.PUBLISHED: ("NotPublished", "the job ended before the model was published"),
}
"""Reason and message of conditions that a job had not reached when it ended."""


def at_the_end(status: FineTuneJobStatus, stated: Facts) -> Facts:
    """Return the facts of a job that has just ended: it waits for nothing any more."""
    unreached: dict[ConditionType, Fact] = {}
    for kind, (reason, text) in _NEVER_CAME.items():
        old = find(status, kind)
        if old is not None and old.status == "True":
            continue
        if old is None or old.reason in UNDER_WAY:
            unreached[kind] = Fact(False, reason, text)
        else:  # the last obstacle is worth knowing
            unreached[kind] = Fact(False, old.reason, f"{text}; last seen: {old.message.partition(ADVICE_BEGINS)[0]}")
    return {**unreached, **stated}


def begun_anew(status: FineTuneJobStatus, stated: Facts) -> Facts:
    """Return the facts of a finished job that starts again: conditions that it had not reached are ahead of it once more."""
    ahead = (kind for kind in _NEVER_CAME if not holds(status, kind))
    return {**dict.fromkeys(ahead, NOT_YET), **stated}


def _condition(old: Condition | None, kind: ConditionType, fact: Fact, generation: int, now: datetime) -> Condition:
    value: Literal["True", "False", "Unknown"] = "Unknown"
    if fact.holds is not None:
        value = "True" if fact.holds else "False"
    since = old.last_transition_time if old is not None and old.status == value else now.replace(microsecond=0)
    return Condition(
        type=kind,
        status=value,
        reason=fact.reason,
        message=fact.message[:MESSAGE_MAX],
        last_transition_time=since,
        observed_generation=generation,
    )


def _kept(status: FineTuneJobStatus, kind: ConditionType) -> Fact:
    """Return the fact of a condition that nobody states now: it stays as it was."""
    old = find(status, kind)
    if kind is ConditionType.RUNNING and status.phase is not Phase.RUNNING:
        if old is not None and old.status == "False" and status.phase not in TERMINAL:
            return Fact(False, old.reason, old.message)
        return Fact(False, status.phase or Phase.PENDING, _RESTING.get(status.phase, "no training pods run"))
    if old is None:
        return replace(NOT_YET, holds=False if kind is ConditionType.RUNNING else None)
    return Fact({"True": True, "False": False, "Unknown": None}[old.status], old.reason, old.message)


_RESTING: Mapping[Phase | None, str] = {
    Phase.SUCCEEDED: "training is over",
    Phase.FAILED: "the job has failed",
    Phase.PREPARING: "model and data are being prepared",
    Phase.PUBLISHING: "training is over",
}
"""Messages of the condition Running in phases without training pods."""
WAITS_FOR: Mapping[Phase | None, ConditionType] = {
    Phase.PREPARING: ConditionType.PREPARED,
    Phase.STARTING: ConditionType.RUNNING,
    Phase.RESTARTING: ConditionType.RUNNING,
    Phase.PUBLISHING: ConditionType.PUBLISHED,
}
"""Condition that shows what a phase waits for."""


def _derived(status: FineTuneJobStatus, facts: Facts, verdict: str) -> dict[ConditionType, Fact]:
    """Make the facts that follow from the phase. `verdict`: reason of a job that has failed."""
    phase = status.phase or Phase.PENDING
    waiting_for = facts[WAITS_FOR.get(phase, ConditionType.VALIDATED)].message
    moving, failed = Fact(True, phase, waiting_for), Fact(False, phase, "not failed")
    stalled = Fact(False, phase, "not stalled")
    if phase is Phase.FAILED and status.failure is not None:
        failed = Fact(True, verdict, f"{status.failure.message} What to do: {status.failure.resolution}")
        moving, stalled = Fact(False, phase, "nothing is being done"), failed
    elif phase in (Phase.SUCCEEDED, Phase.RUNNING):
        moving = Fact(False, phase, "as asked for")
    done = phase is Phase.SUCCEEDED
    return {
        ConditionType.COMPLETE: Fact(done, phase, "the model is there" if done else "not complete"),
        ConditionType.FAILED: failed,
        ConditionType.RECONCILING: moving,
        ConditionType.STALLED: stalled,
    }


def _failed_reason(status: FineTuneJobStatus) -> str:
    """Return the reason for which the job failed. `status.failure` has that of the last attempt: it differs after too many crashes."""
    old = find(status, ConditionType.FAILED)
    if old is not None and old.status == "True":
        return old.reason
    return status.failure.reason if status.failure else "Failed"
