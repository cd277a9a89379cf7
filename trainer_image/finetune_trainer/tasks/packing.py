"""Rows of tokens: the tokens around a text, cutting, joining, and columns of rows in Arrow.

A row is an array of channels by tokens: token ids first, then values for each token. Knows nothing of tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Row = npt.NDArray[np.int32]
"""Array of channels x tokens."""
SHORTEST = 2
"""Tokens of a row from which something can be learnt: the first has nothing before it."""


@dataclass(frozen=True)
class Affixes:
    """Tokens that a tokenizer puts around a text by itself."""

    begin: tuple[int, ...]
    end: tuple[int, ...]


def affixes(tokenizer: Any) -> Affixes:
    """Find the tokens that a tokenizer puts around a text by tokenising one: tokenizers declare them in too many ways."""
    plain = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    whole = list(tokenizer("a")["input_ids"])
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return Affixes(tuple(whole[:start]), tuple(whole[start + len(plain) :]))
    return Affixes((), ())


def row(*channels: Sequence[int]) -> Row:
    return np.asarray(channels, dtype=np.int32)


def fit(tokens: Row, limit: int | None, side: str, begin: int) -> Row:
    """Cut a row to at most `limit` tokens; where the left end is cut, the `begin` tokens that open every text stay."""
    if limit is None or tokens.shape[1] <= limit:
        return tokens
    if side == "left":
        return np.concatenate([tokens[:, :begin], tokens[:, tokens.shape[1] - (limit - begin) :]], axis=1)
    return tokens[:, :limit]


def cut(tokens: Row, limit: int) -> list[Row]:
    """Cut all tokens into rows of `limit`; the last is shorter, but long enough to learn something from."""
    pieces, rest = _pieces(tokens, limit)
    return [*pieces, *_last(rest, limit)]


class Packer:
    """Joins texts to one stream and cuts that into rows of one length; all tokens are in one of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest: list[Row] = []

    def add(self, texts: Iterable[Row]) -> list[Row]:
        """Add texts, and return the rows that have become full."""
        stream = [*self._rest, *texts]
        if not stream:
            return []
        full, rest = _pieces(np.concatenate(stream, axis=1), self._limit)
        self._rest = [rest]
        return full

    def finish(self) -> list[Row]:
        """Return the tokens that are left over: a shorter row (at times with the end of the row before)."""
        left, self._rest = self._rest, []
        return _last(left[0], self._limit) if left else []


def joined(rows: Iterable[Row], limit: int) -> Iterator[Row]:
    """Join whole rows, as many as fit, in order: for rows that must not be cut in two."""
    together: list[Row] = []
    size = 0
    for tokens in rows:
        if together and size + tokens.shape[1] > limit:
            yield np.concatenate(together, axis=1)
            together, size = [], 0
        together.append(tokens)
        size += tokens.shape[1]
    if together:
        yield np.concatenate(together, axis=1)


def _pieces(tokens: Row, limit: int) -> tuple[list[Row], Row]:
    """Return full rows, and a rest of more than one token and at most `limit + 1` (none where there are no tokens)."""
    count = max(0, -(-(tokens.shape[1] - limit - 1) // limit))
    return [tokens[:, start * limit : (start + 1) * limit] for start in range(count)], tokens[:, count * limit :]


def _last(rest: Row, limit: int) -> list[Row]:
    length = rest.shape[1]
    if length <= limit:
        return [rest] if length else []
    border = length - SHORTEST
    return [rest[:, :border], rest[:, border:]]


def lists(rows: Sequence[Row], channel: int, kind: pa.DataType) -> pa.ListArray:
    """Return one channel of all rows as an Arrow column."""
    ends = np.cumsum([0, *(tokens.shape[1] for tokens in rows)], dtype=np.int32)
    values = np.concatenate([tokens[channel] for tokens in rows]) if rows else np.zeros(0, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values).cast(kind))


def lengths(rows: Sequence[Row]) -> pa.Array:
    return pa.array([tokens.shape[1] for tokens in rows], type=pa.int32())
