"""Exact match and F1 of extractive answers, as SQuAD defines them.

Source: the evaluation scripts published with SQuAD 1.1 (Rajpurkar et al., 2016) and 2.0 (Rajpurkar et al., 2018). No
library in use here carries them. A question without an answer has the empty answer as its only reference, as in 2.0.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
NO_ANSWER = ""


def normalised(answer: str) -> str:
    """Return an answer without case, punctuation, articles and superfluous white space."""
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())


def exact(prediction: str, reference: str) -> float:
    """Return 1 for the same words in the same order, else 0."""
    return float(normalised(prediction) == normalised(reference))


def overlap(prediction: str, reference: str) -> float:
    """Return the F1 of the words that both have; where one has none, 1 if the other has none either."""
    mine, theirs = normalised(prediction).split(), normalised(reference).split()
    if not mine or not theirs:
        return float(mine == theirs)
    same = (Counter(mine) & Counter(theirs)).total()
    if not same:
        return 0.0
    precision, recall = same / len(mine), same / len(theirs)
    return 2 * precision * recall / (precision + recall)


def scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return means over the questions in percent, each by the reference that fits best."""
    return {
        "exact_match": _percent(_best(exact, *pair) for pair in zip(predictions, references, strict=True)),
        "f1": _percent(_best(overlap, *pair) for pair in zip(predictions, references, strict=True)),
    }


def _best(score: Callable[[str, str], float], prediction: str, references: Sequence[str]) -> float:
    # As in the script of 2.0, a reference that is empty once normalised does not count.
    usable = [reference for reference in references if normalised(reference)] or [NO_ANSWER]
    return max(score(prediction, reference) for reference in usable)


def _percent(values: Iterable[float]) -> float:
    each = list(values)
    return 100 * sum(each) / len(each)
