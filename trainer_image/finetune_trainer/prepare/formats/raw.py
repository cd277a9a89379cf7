"""Bytes of a file that should be text: is it text at all, in UTF-8, and on which line is it not?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from finetune_trainer.config import Reason
from finetune_trainer.prepare.errors import PrepareError

BLOCK_BYTES = 4 << 20
"""What is read and parsed at a time; a row that is longer makes its block longer; in csv it is refused.

pyarrow reads some thirty blocks of csv ahead."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
HEAD_BYTES = 4096
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
OTHER_CONTENT = {
    # First bytes -> what the file holds and what to do about it.
    b"PAR1": "holds parquet; let its name end in .parquet",
    b"PK\x03\x04": "is a zip archive or an Excel sheet; unpack it, or export it as csv",
    b"\x1f\x8b": "is compressed with gzip; unpack it",
    b"version https://git-lfs": "is a pointer of Git LFS in place of the file; fetch it with `git lfs pull`",
}


def require_text(path: Path, name: str) -> None:
    """Raise where the first bytes say that this is something else than UTF-8 text."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    for first, what in OTHER_CONTENT.items():
        if head.startswith(first):
            raise PrepareError(Reason.DATA_INVALID, f"{name} {what}.")
    if head.startswith(UTF_16) or b"\0" in head:
        raise PrepareError(
            Reason.DATA_INVALID,
            f"{name}, line 1: not UTF-8 but {'UTF-16' if head.startswith(UTF_16) else 'UTF-16 or no text at all'}. "
            "Convert the file, for example with `iconv -f utf-16 -t utf-8`.",
        )


def encoding_problem(path: Path, name: str) -> PrepareError:
    """The error for a file that is not UTF-8, with the line; the file is read again to find it."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            problem = not_utf8(line, number, name)
            if problem:
                return problem
    return PrepareError(Reason.DATA_INVALID, f"{name} is not UTF-8.")


def not_utf8(line: bytes, number: int, name: str) -> PrepareError | None:
    """What is wrong with the encoding of one line."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return PrepareError(
            Reason.DATA_INVALID,
            f"{name}, line {number}: byte 0x{line[error.start]:02x} is not UTF-8. Convert the file, "
            "for example with `iconv -f latin1 -t utf-8`.",
        )
    return None


def blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """The file in blocks of whole lines, each with the number of its first line."""
    with path.open("rb") as file:
        if file.read(len(BYTE_ORDER_MARK)) != BYTE_ORDER_MARK:
            file.seek(0)
        number = 1
        while block := file.read(BLOCK_BYTES):
            block += file.readline()
            yield number, block
            number += block.count(b"\n")
