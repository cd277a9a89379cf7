"""What the prepare step says of the Hub. The tests are in `tests/training`."""

from __future__ import annotations

from tests.support.bad_input.row import BadInput

ROWS: tuple[BadInput, ...] = ()
