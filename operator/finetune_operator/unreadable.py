"""The status of a FineTuneJob that this operator's models refuse: made for another version, or past an older CRD.

It must be told to the user, and must not end the operator. Pure; what stands in the status already is kept.
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
    """The present status with `Validated=False`, the fields that are refused, and the mark of this operator where it has one."""
    generation = body["metadata"].get("generation", 1)
    status: dict[str, Any] = dict(body.get("status") or {})
    present = [one for one in status.get("conditions") or () if one.get("type") != ConditionType.VALIDATED]
    before: Manifest = next(
        (one for one in status.get("conditions") or () if one.get("type") == ConditionType.VALIDATED), {}
    )
    kept = before.get("status") == "False" and "lastTransitionTime" in before
    condition = {
        "type": ConditionType.VALIDATED.value,
        "status": "False",
        "reason": REASON,
        "message": _message(error),
        "lastTransitionTime": before["lastTransitionTime"] if kept else now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "observedGeneration": generation,
    }
    status["conditions"] = [condition, *present]
    status["observedGeneration"] = generation
    status.setdefault("phase", Phase.PENDING.value)
    if operator:
        status["operator"] = operator
    return status


def _message(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_input=False)
    shown = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in problems[:PROBLEMS_SHOWN]]
    rest = len(problems) - len(shown)
    more = f" (and {rest} more)" if rest > 0 else ""
    advice = "Correct these fields, and apply the CRD of this operator's version, which refuses them at once."
    return f"This operator does not understand the job: {'; '.join(shown)}{more}. {advice}"
