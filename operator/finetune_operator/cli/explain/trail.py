"""The functions of the plan that made a decision, outermost first, each with the first sentence of its docstring.

The plan needs no change for this: the interpreter reports every call while `decide` runs.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from finetune_operator.plan.stages.prepare import PrepareOutcome
from finetune_operator.plan.stages.single_pod_job import Fall
from finetune_operator.plan.stages.step import Step

PLAN = "finetune_operator.plan."
PARTS = (f"{PLAN}decide", f"{PLAN}stages.")
RESULTS = (Step, PrepareOutcome, Fall)


@dataclass
class Call:
    """A function of the plan that was entered."""

    function: str
    """Name such as `stages.train.succeed`."""
    sentence: str
    """First sentence of its docstring."""
    decided: bool = False
    """Whether it returned a step, or a part of one."""


@contextmanager
def recorded() -> Iterator[list[Call]]:
    """Record the calls of the plan within the context. Calls that did not decide are removed at its end."""
    calls: list[Call] = []
    entered: dict[FrameType, Call] = {}

    def note(frame: FrameType, event: str, result: Any) -> None:
        if event == "call" and frame.f_globals.get("__name__", "").startswith(PARTS):
            if (call := _call(frame)) is not None:
                calls.append(call)
                entered[frame] = call
        elif event == "return" and (returned := entered.pop(frame, None)) is not None:
            returned.decided = isinstance(result, RESULTS)

    before: Callable[..., object] | None = sys.getprofile()
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(before)
        calls[:] = [call for call in calls if call.decided]


def _call(frame: FrameType) -> Call | None:
    """Return the function that a frame runs; None where that is not a function of a module (a lambda, a method)."""
    function = frame.f_globals.get(frame.f_code.co_qualname)
    if function is None or not inspect.isfunction(function):
        return None
    sentence = (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ")
    return Call(f"{function.__module__.removeprefix(PLAN)}.{function.__name__}", sentence)
