"""Remarks on a manifest: what was taken out of a command line and why, and what is left to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Remark:
    """A sentence for the user."""

    text: str
    taken_out: str = ""
    """Option or variable that the manifest does not have; the text says why. Empty where nothing was taken out."""


def lines(remarks: Iterable[Remark]) -> list[str]:
    """Return a line for each remark; options that were taken out for one reason share a line."""
    taken: dict[str, list[str]] = {}
    notes: list[str] = []
    for remark in remarks:
        if remark.taken_out:
            options = taken.setdefault(remark.text, [])
            if remark.taken_out not in options:
                options.append(remark.taken_out)
        elif remark.text not in notes:
            notes.append(remark.text)
    return [*(f"taken out: {', '.join(options)}: {why}" for why, options in taken.items()), *notes]
