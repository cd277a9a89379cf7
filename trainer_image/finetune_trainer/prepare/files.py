"""The files of a split as one Arrow table: do they have the columns, do they fit together?

How a format is parsed is `formats`' business, where a file lies `file_sources`'; rows wait on the disk, mapped into memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.column_request import ColumnRequest
from finetune_trainer.data.split import Source, Split
from finetune_trainer.prepare import formats
from finetune_trainer.prepare.content import Content
from finetune_trainer.prepare.split_expression import require_same_types
from finetune_trainer.prepare.spool import TypesDifferError, spooled
from finetune_trainer.shared.failures import ExpectedError


def read_files(contents: Sequence[Content], asked: ColumnRequest, scratch: Path) -> Split:
    """Read the rows of all files, in the order given; `scratch` is a folder with room for the columns that are asked for."""
    tables, sources = [], []
    messages: list[str] = []
    asked = replace(asked, tell=messages.append)
    class_names: dict[str, tuple[str, ...]] = {}
    for content in contents:
        place = formats.places(content, asked)
        try:
            table = spooled(formats.read(content, asked), scratch)
        except TypesDifferError as error:
            raise ExpectedError(
                Reason.DATA_INVALID, f"{content.name}, in the rows from {place(error.row)} on: {error}."
            ) from error
        if table is None or table.num_rows == 0:
            raise ExpectedError(Reason.DATA_INVALID, f"{content.name} has no rows.")
        tables.append(table.select(list(asked.columns)))
        sources.append(Source(content.name, table.num_rows, place))
        class_names = class_names or formats.declared_classes(table.schema)
    require_same_types(tables, [content.name for content in contents])
    return Split(
        pa.concat_tables(tables, promote_options="permissive"),
        tuple(sources),
        class_names,
        untyped=any(content.kind in formats.UNTYPED for content in contents),
        messages=tuple(dict.fromkeys(messages)),
    )
