"""Output of tokenizers as prepared rows have it, without work for any other output. No torch in here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from finetune_trainer.tasks.packing import affixes

IDS, MASK = "input_ids", "attention_mask"


@contextmanager
def without_offsets(tokenizer: Any) -> Iterator[Any]:
    """Yield the tokenizer, which then does not work out where in the text each token comes from: a tenth of its time."""
    backend = getattr(tokenizer, "_tokenizer", None)
    if not hasattr(backend, "encode_batch_fast"):
        yield tokenizer
        return
    tokenizer._tokenizer = _WithoutOffsets(backend)
    try:
        yield tokenizer
    finally:
        tokenizer._tokenizer = backend


class _WithoutOffsets:
    """A `tokenizers.Tokenizer` in all but one of its methods."""

    def __init__(self, backend: Any) -> None:
        object.__setattr__(self, "_backend", backend)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._backend, name, value)

    def encode_batch(self, *texts: Any, **options: Any) -> Any:
        return self._backend.encode_batch_fast(*texts, **options)


@dataclass(frozen=True)
class SpecialTokens:
    """Tokens that a tokenizer puts around each text by itself, as text."""

    begin: tuple[str, ...]
    end: tuple[str, ...]

    @classmethod
    def of(cls, tokenizer: Any) -> SpecialTokens:
        around = affixes(tokenizer)

        def among(tokens: tuple[str | None, ...], ids: tuple[int, ...]) -> tuple[str, ...]:
            return tuple(token for token in tokens if token and tokenizer.convert_tokens_to_ids(token) in ids)

        return cls(
            among((tokenizer.bos_token, tokenizer.cls_token), around.begin),
            among((tokenizer.eos_token, tokenizer.sep_token), around.end),
        )


def unmarked(texts: Iterable[str], begin: tuple[str, ...], end: tuple[str, ...]) -> list[str]:
    """Return texts without the special tokens that the tokenizer adds itself: data may hold them, and none should be there twice."""
    return [_without(text, begin, end) for text in texts]


def _without(text: str, begin: tuple[str, ...], end: tuple[str, ...]) -> str:
    first = next((mark for mark in begin if text.startswith(mark)), "")
    last = next((mark for mark in end if text.endswith(mark)), "")
    return text.removeprefix(first).removesuffix(last)


def inputs_of(encoded: Any, tokenizer: Any) -> dict[str, pa.Array]:
    """Return the columns that the model reads, not padded; a mask that the tokenizer does not give is all ones."""
    inputs = {
        name: pa.array(encoded[name], type=pa.list_(pa.int32() if name == IDS else pa.int8()))
        for name in tokenizer.model_input_names
        if name in encoded
    }
    if MASK in tokenizer.model_input_names and MASK not in inputs:
        ids = inputs[IDS]
        ones = pa.array(np.ones(len(ids.values), dtype=np.int8))
        inputs[MASK] = pa.ListArray.from_arrays(ids.offsets, ones)
    return inputs
