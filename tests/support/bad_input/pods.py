"""What shows in the pods alone. The tests are in `tests/e2e`."""

from __future__ import annotations

from tests.support.bad_input.row import BadInput

ROWS: tuple[BadInput, ...] = ()
