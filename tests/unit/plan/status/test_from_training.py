"""Numbers as people read them."""

from __future__ import annotations

import pytest

from finetune_operator.plan.status.from_training import duration, merged


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (41, "41s"), (60, "1m00s"), (185, "3m05s"), (7800, "2h10m"), (86400 * 3 + 3600 * 4, "3d4h")],
)
def test_durations_are_short(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_messages_are_kept_once_in_their_order() -> None:
    assert merged(("a", "b"), ("b", "c")) == ("a", "b", "c")


def test_messages_are_bounded_in_number_and_length() -> None:
    many = merged((), [f"{number}" for number in range(100)] + ["x" * 5000])
    assert (len(many), len(many[-1]), many[0]) == (32, 1024, "69")
