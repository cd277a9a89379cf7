"""Checks of a file that should be text in UTF-8, which name the line where it is not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from finetune_trainer.contract.records import Reason
from finetune_trainer.prepare.content import HEAD_BYTES, Content
from finetune_trainer.shared.failures import ExpectedError

BLOCK_BYTES = 4 << 20
"""The bytes that are read and parsed at a time; a row that is longer makes its block longer; in csv it is refused.

pyarrow reads some thirty blocks of csv ahead."""
LINE_END, NUL = b"\n", b"\0"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
OTHER_CONTENT = {
    # First bytes -> what the file holds and what to do about it.
    b"PAR1": "holds parquet; let its name end in .parquet",
    b"ARROW1": "holds Arrow data; let its name end in .arrow",
    b"PK\x03\x04": "is a zip archive or an Excel sheet; unpack it, or export it as csv",
    b"\x1f\x8b": "is compressed with gzip; let its name end in .gz",
    b"BZh": "is compressed with bzip2; let its name end in .bz2",
    b"\xfd7zXZ\0": "is compressed with xz; let its name end in .xz",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd; let its name end in .zst",
    b"version https://git-lfs": "is a pointer of Git LFS in place of the file; fetch it with `git lfs pull`",
}


def require_rows(content: Content) -> None:
    """Raise where the first bytes say that this is something else than rows of text in UTF-8."""
    if page := content.web_page(require_text(content)):
        raise ExpectedError(Reason.DATA_INVALID, f"{page}.")


def require_text(content: Content) -> bytes:
    """Return the first bytes. Raise where they say that this is something else than UTF-8 text."""
    with content.open() as file:
        head = file.read(HEAD_BYTES)
    for first, problem in OTHER_CONTENT.items():
        if head.startswith(first):
            raise ExpectedError(Reason.DATA_INVALID, f"{content.name} {problem}.")
    if head.startswith(UTF_16) or head[:2].count(0) == 1:  # the first character is one of ASCII
        raise ExpectedError(
            Reason.DATA_INVALID,
            f"{content.name}, line 1: not UTF-8 but UTF-16. Convert the file, for example with "
            f"`iconv -f {'utf-16be' if head[:1] == NUL else 'utf-16'} -t utf-8`.",
        )
    if error := nul_problem(head, 1, content.name):
        raise error
    return head


def nul_problem(part: bytes, first: int, name: str) -> ExpectedError | None:
    """Make the error for a NUL byte in a part of a file, as no text has; None where there is none. `first` is the number of its line."""
    at = part.find(NUL)
    if at < 0:
        return None
    return ExpectedError(
        Reason.DATA_INVALID,
        f"{name}, line {first + part.count(LINE_END, 0, at)}: holds a NUL byte, which is in no text. Was the file cut off while "
        "it was written or copied, or is it no text at all? If nothing is missing, `tr -d '\\0'` takes such bytes out.",
    )


def encoding_problem(content: Content) -> ExpectedError:
    """Make the error for a file that is not UTF-8, with the line; the file is read again to find it."""
    with content.open() as file:
        for number, line in enumerate(file, start=1):
            problem = not_utf8(line, number, content.name)
            if problem:
                return problem
    return ExpectedError(Reason.DATA_INVALID, f"{content.name} is not UTF-8.")


def not_utf8(line: bytes, number: int, name: str) -> ExpectedError | None:
    """Say what is wrong with the encoding of one line."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        # Bytes up to 0x9f are control characters in Latin 1, and quotes, dashes and the euro in what Windows writes.
        usual = "cp1252" if re.search("[\udc80-\udc9f]", line.decode("utf-8", "surrogateescape")) else "latin1"
        return ExpectedError(
            Reason.DATA_INVALID,
            f"{name}, line {number}: byte 0x{line[error.start]:02x} is not UTF-8. Convert the file, "
            f"for example with `iconv -f {usual} -t utf-8`.",
        )
    return None


def blocks(content: Content) -> Iterator[tuple[int, bytes]]:
    """Yield the file in blocks of whole lines, each with the number of its first line."""
    with content.open() as file:
        number, head = 1, file.read(len(BYTE_ORDER_MARK))
        kept = b"" if head == BYTE_ORDER_MARK else head
        while block := kept + file.read(BLOCK_BYTES):
            kept = b""
            block += file.readline()
            _require_no_mark(block, number, content.name)
            if problem := nul_problem(block, number, content.name):
                raise problem
            yield number, block
            number += block.count(b"\n")


def _require_no_mark(block: bytes, first: int, name: str) -> None:
    """Refuse a mark at the beginning of a later line: at the beginning of a file it is no part of its text."""
    at = 0 if block.startswith(BYTE_ORDER_MARK) else block.find(b"\n" + BYTE_ORDER_MARK) + 1
    if at or block.startswith(BYTE_ORDER_MARK):
        line = first + block.count(b"\n", 0, at)
        raise ExpectedError(
            Reason.DATA_INVALID,
            f"{name}, line {line}: begins with a byte order mark, as files have at their "
            "beginning. Were files joined here? Take the mark (bytes ef bb bf) out of this line.",
        )
