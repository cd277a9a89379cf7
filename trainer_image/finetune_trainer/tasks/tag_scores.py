"""Scores of tags: seqeval's, given tags in the one form that it understands.

seqeval takes the first letter of a tag for its place in an entity, whatever the tag: `NOUN` would be an `OUN` at `N`,
`OTHER` no entity at all, and neighbours of one tag a single entity. So `scheme_of` finds out first what a set of tags means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from finetune_trainer.data.data_errors import names

OUTSIDE = "O"
BARE = frozenset("BIESLU")
"""Places of a word in an entity, also alone where entities are of one kind."""
BEFORE = re.compile(r"^([BIESLU])-(.+)$")
AFTER = re.compile(r"^(.+)-([BIESLU])$")
IOBES = {"L": "E", "U": "S"}
"""Letters of BILOU, which seqeval does not know."""
Tags = list[list[str]]


@dataclass(frozen=True)
class Scheme:
    """Meaning of the tags of a dataset."""

    translate: Callable[[str], str]
    """A tag as seqeval reads it."""
    average: str
    """How the scores of the kinds of entities become one number."""
    message: str | None = None
    """Message for the user about it."""


def scheme_of(tags: Sequence[str]) -> Scheme:
    """Tell what tags mean: places before or after the kind of entity, entities without places, or words that make no entities."""
    inside = [tag for tag in tags if tag != OUTSIDE]
    if all(tag in BARE for tag in inside):
        return Scheme(lambda tag: IOBES.get(tag, tag), "micro")
    if any(BEFORE.match(tag) for tag in inside):
        strays = [tag for tag in inside if tag not in BARE and not BEFORE.match(tag)]
        message = (
            f"Tags {names(strays)} do not begin with B- or I- as others do: neighbouring words of one are one entity."
        )
        return Scheme(_prefixed, "micro", message if strays else None)
    if all(tag in BARE or AFTER.match(tag) for tag in inside):
        return Scheme(_turned, "micro")
    if OUTSIDE in tags:
        return Scheme(
            lambda tag: tag if tag == OUTSIDE else f"I-{tag}",
            "micro",
            "The tags do not begin with B- and I-: neighbouring words of one tag are counted as one entity.",
        )
    return Scheme(
        lambda tag: f"S-{tag}",
        "macro",
        "The tags do not begin with B- and I- and none is O: each word is counted for itself, and precision, recall and "
        "F1 are plain means over the tags.",
    )


def _prefixed(tag: str) -> str:
    if tag == OUTSIDE or tag in BARE or BEFORE.match(tag):
        return IOBES.get(tag[0], tag[0]) + tag[1:]
    return f"I-{tag}"


def _turned(tag: str) -> str:
    match = AFTER.match(tag)
    return f"{IOBES.get(match[2], match[2])}-{match[1]}" if match else IOBES.get(tag, tag)


def metrics(references: Tags, predictions: Tags, scheme: Scheme) -> dict[str, float]:
    """Compute precision, recall and F1 of entities, and accuracy of words."""
    from seqeval.metrics import accuracy_score
    from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

    precision, recall, f1, _ = precision_recall_fscore_support(
        _translated(references, scheme), _translated(predictions, scheme), average=scheme.average, zero_division=0
    )
    return {
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "accuracy": float(accuracy_score(references, predictions)),
    }


def by_kind(references: Tags, predictions: Tags, scheme: Scheme) -> dict[str, dict[str, float]]:
    """Return the scores of each kind of entity."""
    from seqeval.metrics import classification_report

    references, predictions = _translated(references, scheme), _translated(predictions, scheme)
    if not any(tag != OUTSIDE for tags in (*references, *predictions) for tag in tags):
        return {}  # without any entity seqeval raises an error
    report = classification_report(references, predictions, output_dict=True, zero_division=0)
    return {
        kind: {
            "precision": float(scores["precision"]),
            "recall": float(scores["recall"]),
            "f1": float(scores["f1-score"]),
            "support": float(scores["support"]),
        }
        for kind, scores in report.items()
        if not kind.endswith(" avg")
    }


def _translated(tags: Tags, scheme: Scheme) -> Tags:
    known: dict[str, str] = {}
    return [[known.get(tag) or known.setdefault(tag, scheme.translate(tag)) for tag in row] for row in tags]
