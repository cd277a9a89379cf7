"""The matrix of bad input: the page says what the tests test, and each row can be told from the others."""

import re
import subprocess
import sys
from collections import Counter

import pytest

from tests.support.bad_input import BadInput, SaidBy, all_rows
from tests.support.cluster.client import REPOSITORY


def test_the_page_is_what_the_generator_writes() -> None:
    script = REPOSITORY / "scripts" / "generate_bad_input.py"
    checked = subprocess.run([sys.executable, script, "--check"], check=False)

    assert checked.returncode == 0, "run `make generate`"


def test_names_are_unique() -> None:
    assert [name for name, count in Counter(row.name for row in all_rows()).items() if count > 1] == []


@pytest.mark.parametrize("row", all_rows(), ids=lambda row: row.name)
def test_a_row_says_what_and_in_which_words(row: BadInput) -> None:
    assert re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", row.name)
    assert row.what
    assert row.message
    assert row.reason or row.said_by is SaidBy.API_SERVER, "a reason to look for"
