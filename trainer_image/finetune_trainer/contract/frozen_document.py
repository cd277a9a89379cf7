"""Parts that the documents of the contract are made of: frozen JSON objects, paths in pods, finite numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

PodPath = Annotated[str, Field(pattern=r"^/")]
"""An absolute path as the training pods see it. One function maps it to a folder where pods are local processes."""
Scalar = bool | int | float | str


def _finite(metrics: Any) -> Any:
    if not isinstance(metrics, dict):
        return metrics
    return {
        name: value
        for name, value in metrics.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }


FiniteMetrics = Annotated[dict[str, float], BeforeValidator(_finite)]
"""Metrics by name, the finite ones alone. JSON has no NaN and no infinity: they would be written as null, and a reader would refuse
the whole document for a single null. The code that measured a metric which is left out tells the user (`left_out`)."""


def left_out(source: str, metrics: Mapping[str, float]) -> str | None:
    """Tell the user which metrics from `source` `FiniteMetrics` leaves out; None where all are finite."""
    values = [f"{name} ({value})" for name, value in metrics.items() if not math.isfinite(value)]
    if not values:
        return None
    predicate = "is no finite number and is" if len(values) == 1 else "are no finite numbers and are"
    return f"{source}: {', '.join(values)} {predicate} left out."


class Document(BaseModel):
    """A frozen JSON document in camelCase, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

    def to_json(self) -> str:
        """Write the document as JSON, with aliases, without nulls and without white space."""
        return self.model_dump_json(by_alias=True, exclude_none=True)
