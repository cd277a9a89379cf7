"""What is believed of what a server says about a file."""

from __future__ import annotations

import httpx2
import pytest

from finetune_trainer.prepare.web import WebFile, _described

FILE = WebFile("train.csv", "https://example.org/train.csv", None, None, {})


@pytest.mark.parametrize(
    ("length", "size"), [("17", 17), ("-1", None), ("\xb2", None), ("9" * 5000, None), ("", None), (None, None)]
)
def test_length_that_is_no_number_is_not_known(length: str | None, size: int | None) -> None:
    assert _described(FILE, httpx2.Response(200), length).size == size
