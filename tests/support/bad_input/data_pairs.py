"""Texts and their summaries or translations, and the models that write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.bad_input.place import NOTICE, Mistake, Place, mistake
from tests.support.tiny import tiny_bert
from tests.support.tiny_t5 import tiny_t5
from tests.support.tiny_translators import tiny_multilingual

_DATA, _MODEL, _ARGUMENTS = "DataInvalid", "ModelNotFound", "ArgumentsInvalid"
_GOOD = {"read": "the cat sees a tree", "write": "die katze sieht einen baum"}
_COLUMNS = {
    "summarization": {"text": "read", "summary": "write"},
    "translation": {"source": "read", "target": "write"},
}
_MANY = "The model /models/mine reads and writes many languages and must be told which: "


def _pairs(
    name: str,
    what: str,
    message: str,
    make_model: Callable[[Path], object],
    *rows: dict[str, Any],
    reason: str,
    task: str = "summarization",
    **spec: Any,
) -> Mistake:
    """Return a mistake in a job on these rows, or on a good one."""

    def make(place: Place) -> None:
        place.write("/data/train.jsonl", "".join(json.dumps(row) + "\n" for row in rows or (_GOOD,)))
        make_model(place.models / "mine")

    return mistake(
        name,
        what,
        reason,
        message,
        make,
        task=task,
        model__name="/models/mine",
        dataset__columns=_COLUMNS[task],
        dataset__files={"train": ["/data/train.jsonl"]},
        **spec,
    )


def _speaks(family: str) -> Callable[[Path], object]:
    return lambda folder: tiny_multilingual(folder, family)


PAIRS: tuple[Mistake, ...] = (
    _pairs(
        "summary-empty",
        "a summary without text",
        "/data/train.jsonl, line 2: column 'write' holds '', no text. Leave such rows out.",
        tiny_t5,
        _GOOD,
        {"read": "we came late", "write": ""},
        reason=_DATA,
    ),
    _pairs(
        "reader-writes",
        "a model that only reads, to write summaries",
        "The model /models/mine is of kind 'bert', for which transformers has no head for writing one text from another. "
        "Choose a model of another kind: ",
        tiny_bert,
        reason=_MODEL,
    ),
    _pairs(
        "prefix-takes-all",
        "a source prefix that leaves no room for the text",
        "preprocessing.maxSourceLength is 2, of which the prefix and special tokens take 2: no room is left for text. "
        "Choose at least 3, or leave it out.",
        tiny_t5,
        reason=_ARGUMENTS,
        preprocessing={"maxSourceLength": 2, "sourcePrefix": "summarize: "},
    ),
    _pairs(
        "prefix-missing",
        "a T5 without a source prefix",
        "The model /models/mine is a T5, which was trained with words before each text that say what to do, and "
        "preprocessing.sourcePrefix is not set. Without them it learns more slowly: set it, to 'summarize: ' for example. "
        "It belongs before each text later on, too.",
        tiny_t5,
        reason=NOTICE,
    ),
    _pairs(
        "languages-missing",
        "a multilingual model that is not told the languages",
        f"{_MANY}set preprocessing.sourceLanguage and preprocessing.targetLanguage. Its codes: ",
        _speaks("mbart50"),
        reason=_ARGUMENTS,
        task="translation",
    ),
    _pairs(
        "language-unknown",
        "a language code of another model",
        "The model /models/mine has no language 'de' (preprocessing.targetLanguage). Did you mean 'deu_Latn'? Its codes: ",
        _speaks("nllb"),
        reason=_ARGUMENTS,
        task="translation",
        preprocessing={"sourceLanguage": "eng_Latn", "targetLanguage": "de"},
    ),
    _pairs(
        "language-for-t5",
        "language codes for a model that has none",
        "The model /models/mine has no codes for languages. Leave preprocessing.sourceLanguage and "
        "preprocessing.targetLanguage out; T5 is told the languages in words, in preprocessing.sourcePrefix",
        tiny_t5,
        reason=_ARGUMENTS,
        task="translation",
        preprocessing={"sourceLanguage": "en", "targetLanguage": "de"},
    ),
)
