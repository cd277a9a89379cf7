"""What the API server refuses when it is applied. The tests are in `tests/cluster`."""

from __future__ import annotations

from tests.support.bad_input.row import BadInput

ROWS: tuple[BadInput, ...] = ()
