"""Several labels of a text, numbers, words and their tags: rows from which nothing can be learnt."""

from __future__ import annotations

import json
from typing import Any

from tests.support.bad_input.place import NOTICE, Mistake, mistake

_DATA, _LABELS = "DataInvalid", "LabelsInvalid"
_TRAIN = "/data/train.jsonl"
_SPECS: dict[str, dict[str, Any]] = {
    "several": {
        "problemType": "multi_label_classification",
        "dataset__columns": {"text": "review", "label": "about"},
    },
    "columns": {
        "problemType": "multi_label_classification",
        "dataset__columns": {"text": "review"},
        "dataset__labelColumns": ["cold", "salty"],
    },
    "number": {"problemType": "regression", "dataset__columns": {"text": "review", "label": "score"}},
    "tags": {"task": "token-classification", "dataset__columns": None},
}


def _rows(kind: str, name: str, what: str, reason: str, message: str, *rows: dict[str, Any]) -> Mistake:
    """Return a mistake in the training rows, without validation rows."""
    content = "".join(json.dumps(row) + "\n" for row in rows)
    return mistake(
        name,
        what,
        reason,
        message,
        lambda place: place.write(_TRAIN, content),
        dataset__files={"train": [_TRAIN]},
        **_SPECS[kind],
    )


def _several(name: str, what: str, message: str, *labels: Any, reason: str = _LABELS) -> Mistake:
    return _rows(
        "several",
        name,
        what,
        reason,
        message,
        *({"review": f"soup {place}", "about": x} for place, x in enumerate(labels)),
    )


def _columns(name: str, what: str, message: str, *labels: tuple[Any, Any], reason: str = _LABELS) -> Mistake:
    rows = ({"review": f"soup {place}", "cold": cold, "salty": salty} for place, (cold, salty) in enumerate(labels))
    return _rows("columns", name, what, reason, message, *rows)


def _number(name: str, what: str, message: str, *scores: Any) -> Mistake:
    return _rows(
        "number",
        name,
        what,
        _LABELS,
        message,
        *({"review": f"soup {place}", "score": x} for place, x in enumerate(scores)),
    )


def _tags(name: str, what: str, message: str, *rows: tuple[Any, Any], reason: str = _LABELS) -> Mistake:
    return _rows("tags", name, what, reason, message, *({"tokens": words, "ner_tags": tags} for words, tags in rows))


_GOOD = (["the", "soup"], ["O", "B-DISH"])
LABELS: tuple[Mistake, ...] = (
    _several(
        "labels-null",
        "several labels, and a row with null in place of a list",
        f"{_TRAIN}, line 2: no labels in column 'about'. Give each row a list, or leave such rows out.",
        *(["spicy"], None),
    ),
    _several(
        "labels-as-yes-and-no",
        "several labels as a 0 or 1 for each class",
        f"{_TRAIN}, line 1: column 'about' holds [0, 1, 1], in which a label is there twice. List the ids (or names) of "
        "the labels that apply, not a 0 or 1 for each.",
        *([0, 1, 1], [1, 0, 0]),
    ),
    _several(
        "labels-none-at-all",
        "several labels, and none in any row",
        f"{_TRAIN}: no row has a label in column 'about'; there is nothing to learn.",
        *([], []),
    ),
    _several(
        "labels-as-broken-lists",
        "several labels written as text that looks like a list",
        f"{_TRAIN}, line 2: column 'about' holds \"['cold' 'salty']\", which looks like a list and is none. Write it as "
        '["a", "b"], which json.dumps does, or as a|b.',
        *("['cold']", "['cold' 'salty']"),
    ),
    _several(
        "labels-as-lists-in-text",
        "several labels as lists written as text",
        "Column 'about' holds text: labels are the items of the list.",
        *("['cold', 'salty']", '["cold"]'),
        reason=NOTICE,
    ),
    _several(
        "labels-as-sets-in-text",
        "several labels as sets or tuples of Python written as text",
        "Column 'about' holds text: labels are the items of the list.",
        *("{'cold', 'salty'}", "('cold',)"),
        reason=NOTICE,
    ),
    _several(
        "labels-as-yes-and-no-of-two",
        "two labels as a 0 or 1 for each of them",
        f"{_TRAIN}: all rows have all 2 labels in column 'about'; there is nothing to tell apart. List the ids (or names) of the "
        "labels that apply, not a 0 or 1 for each.",
        *([0, 1], [1, 0]),
    ),
    _columns(
        "label-columns-of-other-values",
        "a column for each label that holds something else than 0 and 1",
        f"{_TRAIN}, line 2: column 'cold' (spec.dataset.labelColumns) holds 2, where a 1 says that the text has the label and a 0 "
        "that it has not.",
        *((1, 0), (2, 0)),
    ),
    _columns(
        "label-columns-kept-secret",
        "columns of labels that are kept secret",
        f"{_TRAIN}, line 1: column 'cold' (spec.dataset.labelColumns) holds -1, where a 1 says that the text has the label and a "
        "0 that it has not. Splits of which the labels are kept secret hold -1: choose another split.",
        *((-1, -1), (-1, -1)),
    ),
    _columns(
        "label-columns-without-any",
        "columns of labels, and no row that has one",
        f"{_TRAIN}: no row has a 1 in any of the columns cold, salty; there is nothing to learn.",
        *((0, 0), (0, 0)),
    ),
    _columns(
        "label-columns-one-unused",
        "a column of labels without a 1",
        "Labels salty do not occur in the training data.",
        *((1, 0), (0, 0)),
        reason=NOTICE,
    ),
    _several(
        "labels-as-text",
        "several labels written as text",
        "Column 'about' holds text: labels are what is between '|'.",
        *("spicy|cold", "cold"),
        reason=NOTICE,
    ),
    _number(
        "number-is-text",
        "a text where a number is to be predicted",
        f"{_TRAIN}, line 2: the label 'many' in column 'score' is no number. A regression takes numbers: mend such rows, "
        "or leave them out.",
        *("1.5", "many"),
    ),
    _number(
        "number-never-changes",
        "one and the same number in all rows",
        f"{_TRAIN}: all rows have the number 2.0 in column 'score'; there is nothing to learn.",
        *(2, 2),
    ),
    _tags(
        "tags-of-other-length",
        "a list of tags that is not as long as that of the words",
        f"{_TRAIN}, line 2: 2 words in column 'tokens', 1 tags in column 'ner_tags'. Each word needs one tag.",
        *(_GOOD, (["the", "soup"], ["O"])),
    ),
    _tags(
        "words-empty",
        "an empty list of words",
        f"{_TRAIN}, line 2: column 'tokens' holds an empty list of words. Leave such rows out.",
        *(_GOOD, ([], [])),
        reason=_DATA,
    ),
    _tags(
        "words-are-text",
        "a text in place of a list of words",
        f"{_TRAIN}, line 1: column 'tokens' holds string such as 'the soup', not lists of words. Write each as a list, "
        '["a", "b"] (in Python text.split() or ast.literal_eval makes one of text); or name the right column in '
        "spec.dataset.columns.",
        *(("the soup", ["O"]),),
        reason=_DATA,
    ),
    _tags(
        "words-blank",
        "words of white space",
        "1 words of the train rows are blank: they are left out.",
        *(_GOOD, (["the", " "], ["O", "O"])),
        reason=NOTICE,
    ),
    _tags(
        "tags-without-names",
        "tags that are numbers, without names for them",
        "The tags in column 'ner_tags' are numbers without names: the model will call them 0 to 1, and each word is "
        "counted for itself, not names of several words.",
        *((["the", "soup"], [0, 1]),),
        reason=NOTICE,
    ),
    _tags(
        "tags-that-do-not-count",
        "tags of -100, as data that was aligned with tokens has them",
        "1 words of the train rows have the tag -100: they are neither learnt nor judged.",
        *((["the", "s", "oup"], [0, 1, -100]),),
        reason=NOTICE,
    ),
    _tags(
        "tags-that-do-not-count-as-text",
        "the same where all tags are text",
        "1 words of the train rows have the tag -100: they are neither learnt nor judged.",
        *((["the", "s", "oup"], ["O", "B-DISH", "-100"]),),
        reason=NOTICE,
    ),
    _tags(
        "tags-are-text",
        "tags as one text",
        f"{_TRAIN}, line 1: column 'ner_tags' holds string where lists of tags are needed. Write each as a list, "
        '["a", "b"] (in Python text.split() or ast.literal_eval makes one of text); or name the right column in '
        "spec.dataset.columns.",
        *((["the", "soup"], "O B-DISH"),),
    ),
    mistake(
        "tags-unknown-in-validation",
        "a validation tag that training does not have",
        _LABELS,
        "/data/validation.jsonl, line 1: the tag 'B-TOWN' in column 'ner_tags' does not occur in the training data, which "
        "has B-DISH, O.",
        lambda place: (
            place.write(_TRAIN, json.dumps({"tokens": _GOOD[0], "ner_tags": _GOOD[1]})),
            place.write("/data/validation.jsonl", json.dumps({"tokens": ["bath"], "ner_tags": ["B-TOWN"]})),
        ),
        dataset__files__train=[_TRAIN],
        **_SPECS["tags"],
    ),
)
