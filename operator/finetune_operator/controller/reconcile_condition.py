"""The status of a job whose reconcile failed, with the cause in its condition Reconciling. Pure.

A reconcile that succeeds builds all conditions again, and so removes the cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from finetune_operator.api.status import ConditionType, Phase
from finetune_operator.kube.exceptions import ApiError, OperatorError, Refused, Unavailable
from finetune_operator.plan.status.unparsable_spec import with_condition
from finetune_operator.plan.types import Manifest
from finetune_trainer.contract.text import printable

REASON = "Retrying"
CAUSE_LIMIT = 1024


def troubled_status(body: Manifest, error: Exception, now: datetime, operator: str = "") -> Manifest:
    """Return the present status with the cause and, where this operator has a lease, its name.

    What the status says of a generation stays, because nothing was learnt about this one.
    """
    status = with_condition(body, ConditionType.RECONCILING, "True", REASON, message(error), now)
    status["summary"] = {**(status.get("summary") or {}), "reason": REASON}
    status.setdefault("phase", Phase.PENDING.value)
    if operator:
        status["operator"] = operator
    return status


def message(error: Exception) -> str:
    """Say what went wrong, and what to do about it."""
    return f"{printable('; '.join(_cause(error)), CAUSE_LIMIT)}. What to do: {_way_out(error)} It is tried again."


def _cause(error: Exception) -> Iterator[str]:
    if isinstance(error, ApiError):
        yield error.message.rstrip(". ")
        yield f"the API server answered {error.status} {error.reason}" if error.status else error.reason
    elif isinstance(error, OperatorError):
        yield str(error).rstrip(". ")
    else:
        yield f"an error in the operator: {type(error).__name__}: {error}".rstrip(". ")
    yield from getattr(error, "__notes__", ())


def _way_out(error: Exception) -> str:
    match error:
        case Unavailable():
            return "nothing if it passes; else look at the API server, or the admission webhook that is named."
        case Refused():
            return "give the operator the right, or mend what the message names."
        case _:
            return "nothing if it passes; else the operator's log tells more."
