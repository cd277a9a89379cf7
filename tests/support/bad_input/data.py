"""Mistakes in data and models that the prepare step reports, before a rank starts. The tests are in `tests/training`.

The good job reads `/data/train.csv` and `/data/validation.jsonl` with the columns `review` and `stars`, and trains
`/models/base`. A job that cannot work is refused; one that can work, but not as the user will have meant it, gets a `Notice`.
"""

from __future__ import annotations

from tests.support.bad_input.data_answers import ANSWERS
from tests.support.bad_input.data_files import FILES
from tests.support.bad_input.data_formats import FORMATS
from tests.support.bad_input.data_labels import LABELS
from tests.support.bad_input.data_models import MODELS
from tests.support.bad_input.data_pairs import PAIRS
from tests.support.bad_input.data_tokens import TOKENS
from tests.support.bad_input.data_training import TRAINING
from tests.support.bad_input.data_values import VALUES
from tests.support.bad_input.place import makers_of, rows_of

_ALL = (*FILES, *FORMATS, *VALUES, *LABELS, *MODELS, *TOKENS, *ANSWERS, *PAIRS, *TRAINING)
ROWS = rows_of(_ALL)
MAKERS = makers_of(_ALL)
"""`BadInput.setup` -> function that makes the row's files."""
