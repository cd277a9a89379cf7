"""The matrix of bad input: every mistake that a user can make, who reports it, and the words.

Each tier has modules with the rows of its tests: `api` and `operator` (the cluster tier), `hub`
and `data` (the training tier), `pods` (the e2e tier). `docs/bad-input.md` is written from all of them. All modules are
imported only when all rows are needed, so that the tests of a tier import only their own.
"""

from __future__ import annotations

from importlib import import_module

from tests.support.bad_input.row import BadInput, SaidBy

__all__ = ["MODULES", "BadInput", "SaidBy", "all_rows"]

MODULES = ("api", "operator", "hub", "data", "pods")


def all_rows() -> tuple[BadInput, ...]:
    """Return the rows of every tier, in the order of the documentation."""
    rows: list[BadInput] = []
    for name in MODULES:
        rows.extend(import_module(f"tests.support.bad_input.{name}").ROWS)
    return tuple(rows)
