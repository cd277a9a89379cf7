"""Expressions of `spec.dataset.splits`: a split of the data, a slice of it, or several of them one after the other.

The syntax is that of `datasets` (`train[:10%]`, `train[100:200]`, `train+validation`), read by its own parser.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pyarrow as pa

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.split import Split
from finetune_trainer.prepare.hub_errors import split_missing
from finetune_trainer.shared.failures import ExpectedError

SIGNS = re.compile(r"[\[\]+:%()]")


def names_in(expression: str) -> list[str]:
    """Return the splits that an expression names, each once."""
    return list(dict.fromkeys(re.sub(r"[\[(].*", "", part).strip() for part in expression.split("+")))


def chosen(expression: str, role: str, available: Sequence[str], read: Callable[[str], Split]) -> Split:
    """Read the rows that `spec.dataset.splits.<role>` names; `read` gives a whole split, `available` names all splits."""
    if expression in available or not SIGNS.search(expression):
        return read(_known(expression, role, available))
    whole = {name: read(_known(name, role, available)) for name in names_in(expression)}
    rows = {name: split.table.num_rows for name, split in whole.items()}
    parts = [whole[name].sliced(start, stop) for name, start, stop in _slices(expression, role, rows)]
    kept = [part for part in parts if part.sources]
    if not kept:
        has = " and ".join(f"{name} has {count} row{'s' if count != 1 else ''}" for name, count in rows.items())
        raise _invalid(role, expression, f"that is no row at all: {has}.")
    return joined(kept)


def parts_of(expression: str, role: str, available: Sequence[str]) -> list[tuple[str, int, int | None]]:
    """Return the parts where rows are not counted beforehand: split, first row, and the one after the last (None: the end)."""
    if expression in available or not SIGNS.search(expression):
        return [(_known(expression, role, available), 0, None)]
    if "%" in expression or "[-" in expression or ":-" in expression:
        raise _invalid(
            role,
            expression,
            "with spec.dataset.streaming the rows are not counted beforehand, so a share of them or one counted from the "
            "end is not known. Write train[:1000], or leave streaming out.",
        )
    endless = 2**62
    parts = _slices(expression, role, {_known(name, role, available): endless for name in names_in(expression)})
    return [(name, start, None if stop == endless else stop) for name, start, stop in parts]


def joined(parts: Sequence[Split]) -> Split:
    """Join the rows of several splits, one after the other."""
    first = parts[0]
    if len(parts) == 1:
        return first
    for other in parts[1:]:
        require_same_types([first.table, other.table], [first.name, other.name])
        for column, classes in other.class_names.items():
            if first.class_names.get(column, classes) != classes:
                raise ExpectedError(
                    Reason.LABELS_INVALID,
                    f"Column {column!r} has other classes in {first.name} than in {other.name}: they are not one split.",
                )
    table = pa.concat_tables([part.table for part in parts], promote_options="permissive")
    class_names = {column: classes for part in parts for column, classes in part.class_names.items()}
    return Split(
        table,
        tuple(source for part in parts for source in part.sources),
        class_names,
        untyped=any(part.untyped for part in parts),
        messages=tuple(dict.fromkeys(message for part in parts for message in part.messages)),
    )


def require_same_types(tables: Sequence[pa.Table], names: Sequence[str]) -> None:
    """Raise where a column of a later table holds another type than in the first; `names` are those of the tables in messages."""
    for table, name in zip(tables[1:], names[1:], strict=True):
        for column in tables[0].schema:
            if column.name not in table.column_names:
                continue
            other = table.schema.field(column.name).type
            if not _fit(column.type, other):
                raise ExpectedError(
                    Reason.DATA_INVALID,
                    f"Column {column.name!r} holds {column.type} in {names[0]} and {other} in {name}.",
                )


def _fit(left: pa.DataType, right: pa.DataType) -> bool:
    """Tell whether types are equal, or lists and objects of which one knows less (an empty list, a key that no row has)."""
    if left == right or pa.types.is_null(left) or pa.types.is_null(right):
        return True
    if pa.types.is_list(left) and pa.types.is_list(right):
        return _fit(left.value_type, right.value_type)
    if pa.types.is_struct(left) and pa.types.is_struct(right):
        both = {field.name for field in left} & {field.name for field in right}
        return all(_fit(left.field(name).type, right.field(name).type) for name in both)
    return False


def _known(name: str, role: str, available: Sequence[str]) -> str:
    if name not in available:
        raise split_missing(name, list(available), role)
    return name


def _slices(expression: str, role: str, rows: dict[str, int]) -> list[tuple[str, int, int]]:
    from datasets import ReadInstruction  # takes a second, for which most jobs need not wait

    try:
        absolute = ReadInstruction.from_spec(expression).to_absolute(rows)
    except (ValueError, TypeError) as error:
        reason = str(error).rstrip(".")
        if "Unrecognized" in reason:
            reason = "slices are written as train[:10%] or train[100:200], several of them with +"
        raise _invalid(role, expression, f"{reason}.") from error
    return [(part.splitname, part.from_, part.to) for part in absolute]


def _invalid(role: str, expression: str, reason: str) -> ExpectedError:
    return ExpectedError(Reason.DATASET_NOT_FOUND, f"spec.dataset.splits.{role} is {expression!r}: {reason}")
