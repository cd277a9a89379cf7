"""Scripts of texts, as far as metrics that count words must know them. Knows nothing of tasks."""

from __future__ import annotations

from collections.abc import Sequence

import regex

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""Scripts that put no space between words."""
WORD = regex.compile(rf"[{UNSPACED}]\p{{M}}*|(?:(?![{UNSPACED}])[\p{{L}}\p{{M}}\p{{N}}])+")
PLAIN = regex.compile(r"[a-zA-Z0-9]+")
LETTER = regex.compile(r"\p{L}")
MIXED = 0.05
"""Share of words with other letters than a to z above which a metric that knows no others misleads."""


class Words:
    """A tokenizer for rouge_score: words of any script; a letter each where words are not spaced."""

    def tokenize(self, text: str) -> list[str]:
        return list(WORD.findall(text.lower()))


def beyond_ascii(texts: Sequence[str]) -> bool:
    """Tell whether more than a few words are written with other letters than a to z."""
    words = [word for text in texts for word in WORD.findall(text)]
    return sum(not PLAIN.fullmatch(word) for word in words) > MIXED * len(words)


def share(texts: Sequence[str], script: str) -> float:
    """Return the share of letters that belong to a script, or to one of several."""
    letters = [letter for text in texts for letter in LETTER.findall(text)]
    return sum(bool(regex.match(rf"[{script}]", letter)) for letter in letters) / max(1, len(letters))
