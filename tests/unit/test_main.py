"""The parts of the operator live and die together."""

import asyncio

import pytest

from finetune_operator.__main__ import _until_one_ends


async def forever(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("forever")


async def test_a_part_that_fails_ends_the_others_and_is_heard() -> None:
    ended: list[str] = []

    async def fails() -> None:
        await asyncio.sleep(0.01)
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        await _until_one_ends(forever(ended), fails())
    assert ended == ["forever"]


async def test_a_part_that_is_told_to_end_ends_the_others_in_peace() -> None:
    ended: list[str] = []

    async def ends() -> None:
        await asyncio.sleep(0.01)

    await _until_one_ends(forever(ended), ends())
    assert ended == ["forever"]
