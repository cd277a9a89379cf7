"""Plain text: a line is a row, with one column `text`. Blank lines are no rows."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from finetune_trainer.data.column_request import ColumnRequest
from finetune_trainer.prepare.content import Content
from finetune_trainer.prepare.formats import columns
from finetune_trainer.prepare.formats.raw import BYTE_ORDER_MARK, blocks, not_utf8, require_text

COLUMN = "text"


def read(content: Content, asked: ColumnRequest) -> Iterator[pa.Table]:
    """Yield the tables of the one column."""
    if page := content.web_page(require_text(content)):
        asked.tell(f"{page}; unless the text of this page is what is to be learnt.")
    columns.require(
        columns.without_absent(asked, [COLUMN]).columns,
        [COLUMN],
        content.name,
        f" A text file has one column, {COLUMN!r}.",
    )
    for first, block in blocks(content):
        try:
            text = block.decode()
        except UnicodeDecodeError:
            for number, line in enumerate(block.split(b"\n"), start=first):
                if problem := not_utf8(line, number, content.name):
                    raise problem from None
            raise
        lines = [line.removesuffix("\r") for line in text.split("\n") if line.strip()]
        if lines:
            yield pa.table({COLUMN: pa.array(lines, pa.string())})


def numbers(content: Content) -> Iterator[int]:
    """Yield the numbers of the lines that are not blank."""
    with content.open() as file:
        for number, line in enumerate(file, start=1):
            if line.removeprefix(BYTE_ORDER_MARK).strip():
                yield number
