"""What the operator says in the condition `Validated`. The tests are in `tests/cluster`."""

from __future__ import annotations

from tests.support.bad_input.row import BadInput

ROWS: tuple[BadInput, ...] = ()
