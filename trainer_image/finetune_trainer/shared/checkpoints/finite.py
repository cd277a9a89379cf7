"""Tensors that hold values that are not finite, in files of safetensors and of torch, found without either library.

A number is not finite where all bits of its exponent are set, so its upper bytes are enough. Process 1 of a pod needs neither
numpy nor torch to check them, and does so beside the training. Files of other formats count as files without tensors.
"""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

NAMES_MAX = 4
"""The most names of one file: more would tell a reader nothing new."""
_HEADER_BYTES_MAX = 100 << 20
"""The longest header of a safetensors file; the format allows no more."""
_PICKLE_BYTES_MAX = 256 << 20
"""The longest pickle of a file of torch that is read."""
_CHUNK_BYTES = 1 << 20
"""The bytes that are checked together: a multiple of every width, so that no number is cut in two."""
_LOCAL_HEADER = struct.Struct("<26xHH")
"""The header of a member of a zip archive: the lengths of its name and of its extra field."""
_NO_TENSORS = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RuntimeError,
    EOFError,
    struct.error,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
"""Errors that a torn file raises, or a file of another format than its name says."""


def _table(chosen: Callable[[int], bool]) -> bytes:
    """Make a table for `bytes.translate`: 1 for a byte that is chosen, else 0."""
    return bytes(chosen(byte) for byte in range(256))


@dataclass(frozen=True)
class Format:
    """How numbers of one type lie in memory, the low byte first."""

    width: int
    highest: bytes
    """Table of the highest bytes of numbers that are not finite."""
    below: bytes | None = None
    """Table of the bytes below the highest, where the exponent reaches into them."""

    def not_finite(self, chunk: bytes) -> bool:
        """Tell whether any number of the chunk is NaN or infinite."""
        highest = chunk[self.width - 1 :: self.width].translate(self.highest)
        if 1 not in highest:
            return False
        if self.below is None:
            return True
        below = chunk[self.width - 2 :: self.width].translate(self.below)
        return int.from_bytes(highest) & int.from_bytes(below) != 0


_SEVEN_BITS = _table(lambda byte: byte & 0x7F == 0x7F)
_TOP_BIT = _table(lambda byte: byte >= 0x80)
FLOAT64 = Format(8, _SEVEN_BITS, _table(lambda byte: byte >= 0xF0))
FLOAT32 = Format(4, _SEVEN_BITS, _TOP_BIT)
BFLOAT16 = Format(2, _SEVEN_BITS, _TOP_BIT)
FLOAT16 = Format(2, _table(lambda byte: byte & 0x7C == 0x7C))

_OF_SAFETENSORS = {"F64": FLOAT64, "F32": FLOAT32, "BF16": BFLOAT16, "F16": FLOAT16}
_OF_TORCH = {
    "DoubleStorage": FLOAT64,
    "FloatStorage": FLOAT32,
    "BFloat16Storage": BFLOAT16,
    "HalfStorage": FLOAT16,
}


@dataclass(frozen=True)
class _Numbers:
    """Where in a file the numbers of a tensor lie, in bytes."""

    name: str
    format: Format
    begin: int
    end: int


def not_finite(file: Path) -> tuple[str, ...]:
    """Return the tensors of a file that hold NaN or infinity, `NAMES_MAX` of them at most."""
    names: list[str] = []
    with file.open("rb") as stream:
        for numbers in _tensors(file, stream):
            if _holds_not_finite(stream, numbers):
                names.append(numbers.name)
            if len(names) == NAMES_MAX:
                break
    return tuple(names)


def not_in_base(base: Path, names: Iterable[str]) -> tuple[str, ...]:
    """Leave out tensors that were not finite in the base model either, such as a mask that it was saved with.

    A name may have gained or lost a prefix since.
    """
    wanted = tuple(names)
    files = [file for file in sorted(base.glob("*")) if file.suffix in (".safetensors", ".bin")] if wanted else []
    of_base = {name for file in files for name in not_finite(file)}
    return tuple(name for name in wanted if not any(_same(name, other) for other in of_base))


def _same(name: str, other: str) -> bool:
    return name == other or name.endswith(f".{other}") or other.endswith(f".{name}")


def _holds_not_finite(stream: BinaryIO, numbers: _Numbers) -> bool:
    stream.seek(numbers.begin)
    left = numbers.end - numbers.begin
    while left > 0 and (chunk := stream.read(min(_CHUNK_BYTES, left))):
        if numbers.format.not_finite(chunk):
            return True
        left -= len(chunk)
    return False


def _tensors(file: Path, stream: BinaryIO) -> tuple[_Numbers, ...]:
    try:
        if file.suffix == ".safetensors":
            return tuple(_of_safetensors(stream))
        return tuple(_of_torch(stream)) if zipfile.is_zipfile(stream) else ()
    except _NO_TENSORS:
        return ()


def _of_safetensors(stream: BinaryIO) -> Iterator[_Numbers]:
    (length,) = struct.unpack("<Q", stream.read(8))
    if length > _HEADER_BYTES_MAX:
        raise ValueError("no header is so long")
    for name, entry in json.loads(stream.read(length)).items():
        if name != "__metadata__" and (kind := _OF_SAFETENSORS.get(entry["dtype"])) is not None:
            begin, end = entry["data_offsets"]
            yield _within(_Numbers(name, kind, 8 + length + begin, 8 + length + end), 8 + length, None)


def _within(numbers: _Numbers, begin: int, end: int | None) -> _Numbers:
    if numbers.begin < begin or (end is not None and numbers.end > end):
        raise ValueError(f"{numbers.name} does not lie where numbers do")
    return numbers


# --- what torch saves: a zip archive with a pickle, and the numbers of each storage as they lie in memory -------------


@dataclass(frozen=True)
class _Storage:
    format: Format
    key: str


@dataclass(frozen=True)
class _View:
    """A tensor: a range of a storage, in numbers. The rest of the storage may never have been written."""

    storage: _Storage
    begin: int
    end: int


def _of_torch(stream: BinaryIO) -> Iterator[_Numbers]:
    with zipfile.ZipFile(stream) as archive:
        members = {name.partition("/")[2]: archive.getinfo(name) for name in archive.namelist()}
        if members["data.pkl"].file_size > _PICKLE_BYTES_MAX:
            raise ValueError("no pickle of tensors is so long")
        with archive.open(members["data.pkl"]) as content:
            saved = _Reader(content).load()
    for name, view in _views(saved, ""):
        member, width = members[f"data/{view.storage.key}"], view.storage.format.width
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError("torch compresses nothing")
        stream.seek(member.header_offset)
        begin = member.header_offset + _LOCAL_HEADER.size + sum(_LOCAL_HEADER.unpack(stream.read(_LOCAL_HEADER.size)))
        numbers = _Numbers(name, view.storage.format, begin + view.begin * width, begin + view.end * width)
        yield _within(numbers, begin, begin + member.file_size)


def _views(value: object, path: str) -> Iterator[tuple[str, _View]]:
    """Yield the tensors of nested dictionaries and lists, each with its path."""
    if isinstance(value, _View):
        yield path, value
        return
    pairs: Iterable[tuple[object, object]] = ()
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list | tuple):
        pairs = enumerate(value)
    for key, part in pairs:
        yield from _views(part, f"{path}.{key}" if path else str(key))


class _Ignored:
    """Stand-in for any class or function that a pickle names: it takes all arguments, and does nothing."""

    def __new__(cls, *_: object, **__: object) -> _Ignored:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...
    def __setstate__(self, state: object) -> None: ...
    def __setitem__(self, key: object, value: object) -> None: ...
    def append(self, item: object) -> None: ...
    def extend(self, items: object) -> None: ...
    def add(self, item: object) -> None: ...


class _Reader(pickle.Unpickler):
    """Unpickler that finds where tensors lie. Nothing that the pickle names is imported or called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _view
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, *_: data
        return _OF_TORCH.get(name, _Ignored) if module == "torch" else _Ignored

    def persistent_load(self, pid: Any) -> object:
        _, kind, key, *_ = pid
        return _Storage(kind, str(key)) if isinstance(kind, Format) else None


def _view(storage: object, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> object:
    if not isinstance(storage, _Storage) or 0 in size:
        return None
    reach = sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    return _View(storage, offset, offset + reach + 1)
