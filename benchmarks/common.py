"""Figures and how they are shown. Knows nothing of what is measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One measured thing beside its baseline."""

    what: str
    baseline: str
    ours: str
    measured: float
    """What the target is about: a ratio, a count, a difference."""
    target: float | None = None
    """At most this much; None where there is no target."""
    unit: str = "x"

    @property
    def verdict(self) -> str:
        """Whether the target was met, and else by how much it was missed."""
        if self.target is None:
            return "-"
        over = self.measured - self.target
        return "met" if over <= 0 else f"missed by {over:.3g} {self.unit}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie, interpolated between neighbours."""
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def spread(values: Sequence[float], unit: str = "ms", scale: float = 1000.0) -> str:
    """Median and p95 as text."""
    return f"{median(values) * scale:.3g} / {percentile(values, 0.95) * scale:.3g} {unit}"


def machine() -> str:
    """Where these figures come from, and how busy it was."""
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load {load:.1f} at the end"
    )


def show(title: str, figures: Sequence[Figure]) -> None:
    """Print a table that README.md can hold as it is."""
    table = Table(box=box.MARKDOWN)
    for heading in (title, "baseline", "ours", "measured", "target", ""):
        table.add_column(heading, overflow="fold")
    for figure in figures:
        target = "-" if figure.target is None else f"<= {figure.target:g} {figure.unit}"
        cells = (
            figure.what,
            figure.baseline,
            figure.ours,
            f"{figure.measured:.3g} {figure.unit}",
            target,
            figure.verdict,
        )
        table.add_row(*cells)
    console = Console(width=max(160, Console().width))
    console.print(table)
    console.print(f"{machine()}\n", style="dim", highlight=False)
