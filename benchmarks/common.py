"""Figures beside their baselines, with their targets. Knows nothing of what is measured, nor of where figures are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Figure:
    """A measured figure beside its baseline."""

    what: str
    baseline: str
    ours: str
    measured: float
    """Number that the target bounds: a ratio, a count, a difference."""
    target: float | None = None
    """The target of `measured`; None where there is none."""
    unit: str = "x"
    at_least: bool = False
    """The direction of the target: True where more is better."""

    @property
    def goal(self) -> str:
        """Target as text."""
        return "-" if self.target is None else f"{'>=' if self.at_least else '<='} {self.target:g} {self.unit}"

    @property
    def result(self) -> str:
        """Measured number as text."""
        return f"{self.measured:.3g} {self.unit}"

    @property
    def verdict(self) -> str:
        """Whether the target was met, and else by how much it was missed."""
        if self.target is None:
            return "-"
        miss = self.target - self.measured if self.at_least else self.measured - self.target
        return "met" if miss <= 0 else f"missed by {miss:.3g} {self.unit}"


@dataclass(frozen=True)
class Table:
    """Figures that belong together."""

    title: str
    figures: tuple[Figure, ...]
    headings: tuple[str, str] = ("baseline", "ours")
    """Headings of the two columns that are compared."""


def rates(what: str, before: float, now: float, target: float | None = None) -> Figure:
    """Compare two rates a second, more of which is better."""
    return Figure(what, f"{before:.1f} /s", f"{now:.1f} /s", now / before, target, at_least=True)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of the values lie, interpolated between neighbours."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def spread(values: Sequence[float], unit: str = "ms", scale: float = 1000.0) -> str:
    """Return median and p95 as text."""
    return f"{median(values) * scale:.3g} / {percentile(values, 0.95) * scale:.3g} {unit}"
