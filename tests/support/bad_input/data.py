"""What the prepare step says of data. The tests are in `tests/training`."""

from __future__ import annotations

from tests.support.bad_input.row import BadInput

ROWS: tuple[BadInput, ...] = ()
