"""Rows on their way from their files to the tokenizer: on the disk, mapped into memory, so that any number fits."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from finetune_trainer.shared.volume import make_folder


class TypesDifferError(Exception):
    """Rows from `row` on hold something in a column that does not go together with what the rows before hold."""

    def __init__(self, row: int, column: str, before: pa.DataType, after: pa.DataType) -> None:
        super().__init__(f"column {column!r} holds {after}, the rows before hold {before}")
        self.row = row


def spooled(tables: Iterable[pa.Table], folder: Path) -> pa.Table | None:
    """Write the tables to a file, and return them as one that takes no memory of its own; None where there are none.

    A column whose type widens on the way (integers, then fractions) begins a new file, and is cast in the end.
    """
    spool = _Spool(make_folder(folder))
    try:
        for table in tables:
            spool.add(table)
        return spool.table()
    finally:
        spool.close()


class _Spool:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None
        self._schema: pa.Schema | None = None
        self._files: list[Path] = []
        self._rows = 0

    def add(self, table: pa.Table) -> None:
        if self._schema is None:
            self._schema = table.schema
        wider = self._wider(table.schema)
        if self._writer is None or wider != self._schema:
            self._begin(wider)
        assert self._writer is not None
        self._writer.write_table(table.cast(wider))
        self._rows += table.num_rows

    def _wider(self, schema: pa.Schema) -> pa.Schema:
        assert self._schema is not None
        try:
            return pa.unify_schemas([self._schema, schema], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            for before, after in zip(self._schema, schema, strict=True):
                try:
                    pa.unify_schemas([pa.schema([before]), pa.schema([after])], promote_options="permissive")
                except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                    raise TypesDifferError(self._rows, before.name, before.type, after.type) from error
            raise

    def _begin(self, schema: pa.Schema) -> None:
        if self._writer is not None:
            self._writer.close()
        self._schema = schema
        descriptor, name = tempfile.mkstemp(suffix=".arrow", dir=self._folder)
        os.close(descriptor)
        self._files.append(Path(name))
        self._writer = pa.ipc.new_stream(name, schema)

    def table(self) -> pa.Table | None:
        if self._writer is None:
            return None
        self._writer.close()
        parts = [pa.ipc.open_stream(pa.memory_map(str(path))).read_all() for path in self._files]
        return pa.concat_tables(parts, promote_options="permissive").replace_schema_metadata(parts[0].schema.metadata)

    def close(self) -> None:
        """Remove the files: rows that are mapped stay until nobody needs them, and a killed process leaves nothing behind."""
        if self._writer is not None:
            self._writer.close()
        for path in self._files:
            path.unlink()
