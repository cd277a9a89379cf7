"""Which numbers are not finite, read from their bytes."""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_trainer.shared.checkpoints import finite
from finetune_trainer.shared.checkpoints.finite import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Format
from tests.support.checkpoints import safetensors

NAN, INFINITE = math.nan, math.inf
LARGEST = 3.4028234663852886e38
"""Largest number of single precision: masks hold it, and it is finite."""


@pytest.mark.parametrize(
    ("numbers", "code", "width"), [(FLOAT64, "d", 64), (FLOAT32, "f", 32), (FLOAT16, "e", 16)], ids=["64", "32", "16"]
)
def test_numbers_are_told_by_their_bytes(numbers: Format, code: str, width: int) -> None:
    @given(st.lists(st.floats(width=width), max_size=20))  # type: ignore[arg-type]
    def check(values: list[float]) -> None:
        chunk = struct.pack(f"<{len(values)}{code}", *values)
        assert numbers.not_finite(chunk) == any(not math.isfinite(value) for value in values)

    check()


@given(st.lists(st.integers(0, 2**16 - 1), max_size=20))
def test_so_are_those_of_bfloat16_which_are_the_upper_half_of_float32(halves: list[int]) -> None:
    values = [struct.unpack("<f", struct.pack("<HH", 0, half))[0] for half in halves]
    chunk = struct.pack(f"<{len(halves)}H", *halves)
    assert BFLOAT16.not_finite(chunk) == any(not math.isfinite(value) for value in values)


@pytest.mark.parametrize("bad", [NAN, -NAN, INFINITE, -INFINITE])
def test_tensors_of_safetensors_are_named(tmp_path: Path, bad: float) -> None:
    file = tmp_path / "model.safetensors"
    safetensors(file, {"a": [1.0, -LARGEST], "b": [2.0, bad, 3.0], "c": [LARGEST, 0.0], "d": [bad]})
    assert finite.not_finite(file) == ("b", "d")


def test_a_tensor_longer_than_what_is_read_at_once_is_read_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    safetensors(file, {"long": [0.5] * 600_000 + [NAN], "short": [0.5]})
    assert finite.not_finite(file) == ("long",)


def test_no_more_are_named_than_anybody_reads(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    safetensors(file, {f"layer.{number}": [NAN] for number in range(100)})
    assert len(finite.not_finite(file)) == finite.NAMES_MAX


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return open, ("/nowhere/written-by-a-pickle", "w")


def archive(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        for name, data in members.items():
            made.writestr(f"archive/{name}", data)
    return content.getvalue()


def header(text: bytes) -> bytes:
    """Make the header of a safetensors file."""
    return struct.pack("<Q", len(text)) + text


OTHERS = {
    "empty": b"",
    "short": b"\x01\x02",
    "a text": b"model.safetensors of step 20" * 50,
    "a header without an end": struct.pack("<Q", 2**63) + b"{}",
    "a header that is a list": header(b"[]"),
    "a header with something else in it": header(b'{"a": 1}'),
    "a negative place": header(b'{"a": {"dtype": "F32", "data_offsets": [-9, 4]}}'),
    "a torn archive": archive(**{"data.pkl": pickle.dumps({})})[:-10],
    "an archive of something else": archive(text=b"hello"),
    "a pickle that would open a file": archive(**{"data.pkl": pickle.dumps(Bomb())}),
    "a torn pickle": archive(**{"data.pkl": pickle.dumps(list(range(100)))[:50]}),
    "a pickle of a loop": archive(**{"data.pkl": b"\x80\x02}q\x00U\x01aq\x01h\x00s."}),
}


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt"])
@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_a_file_of_another_kind_holds_no_tensors(tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    assert finite.not_finite(file) == ()


def test_what_is_not_finite_in_the_base_model_is_its_own(tmp_path: Path) -> None:
    safetensors(tmp_path / "model.safetensors", {"encoder.mask": [-INFINITE, 0.0], "encoder.weight": [1.0]})
    names = ("bert.encoder.mask", "encoder.mask", "mask", "encoder.weight", "encoder.mask.more")
    assert finite.not_in_base(tmp_path, names) == ("encoder.weight", "encoder.mask.more")
    assert finite.not_in_base(tmp_path / "nowhere", ()) == ()
