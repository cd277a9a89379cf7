"""The status of a FineTuneJob that this operator's models refuse: made for another version, or past an older CRD.

The user must be told, and the operator must not end by it. Pure; the other fields of the status are kept.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import ValidationError

from finetune_operator.api.status import ConditionType, Phase
from finetune_operator.plan.types import Manifest

REASON = "SpecInvalid"
PROBLEMS_SHOWN = 5


def unreadable_status(body: Manifest, error: ValidationError, now: datetime, operator: str = "") -> Manifest:
    """Return the present status with `Validated=False`, the fields that are refused, and the mark of this operator where it has one."""
    status = with_condition(body, ConditionType.VALIDATED, "False", REASON, _message(error), now)
    status["observedGeneration"] = body["metadata"].get("generation", 1)
    status.setdefault("phase", Phase.PENDING.value)
    if operator:
        status["operator"] = operator
    return status


def with_condition(
    body: Manifest, kind: ConditionType, value: str, reason: str, message: str, now: datetime
) -> Manifest:
    """Return the present status with one condition set, of the present generation; the others stay as they are."""
    status: dict[str, Any] = dict(body.get("status") or {})
    present: list[Manifest] = status.get("conditions") or []
    before: Manifest = next((condition for condition in present if condition.get("type") == kind), {})
    kept = before.get("status") == value and "lastTransitionTime" in before
    changed = {
        "type": kind.value,
        "status": value,
        "reason": reason,
        "message": message,
        "lastTransitionTime": before["lastTransitionTime"] if kept else now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "observedGeneration": body["metadata"].get("generation", 1),
    }
    status["conditions"] = [changed, *(condition for condition in present if condition.get("type") != kind)]
    return status


def _message(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_input=False)
    shown = [
        f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in problems[:PROBLEMS_SHOWN]
    ]
    rest = len(problems) - len(shown)
    more = f" (and {rest} more)" if rest > 0 else ""
    advice = "Correct these fields, and apply the CRD of this operator's version, which refuses them at once."
    return f"This operator does not understand the job: {'; '.join(shown)}{more}. {advice}"
