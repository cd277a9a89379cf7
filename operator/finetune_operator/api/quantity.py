"""Kubernetes quantities as exact numbers: `500m`, `16Gi`, `1e3`."""

from __future__ import annotations

import re
from fractions import Fraction

_QUANTITY = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]?|[eE][+-]?[0-9]+)")
_SUFFIXES = {
    **{suffix: Fraction(1000) ** power for power, suffix in enumerate("num", start=-3)},
    **{suffix: Fraction(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{suffix: Fraction(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)},
    "": Fraction(1),
}
_MOST_EXPONENT = 60
"""Largest exponent that is computed: Kubernetes counts to 2^63, and a tenant's `1e999999999` would take for ever."""


def is_quantity(text: str) -> bool:
    return _QUANTITY.fullmatch(text) is not None


def parse(text: str) -> Fraction:
    """Return the number that a quantity stands for. Raises ValueError."""
    if (match := _QUANTITY.fullmatch(text)) is None:
        raise ValueError(f"{text} is no quantity")
    number, suffix = match.groups()
    if suffix in _SUFFIXES:
        return Fraction(number) * _SUFFIXES[suffix]
    exponent = min(max(int(suffix[1:]), -_MOST_EXPONENT), _MOST_EXPONENT)
    return Fraction(number) * Fraction(10) ** exponent


def amount(value: object) -> Fraction | None:
    """Return the number of a quantity in an object that others wrote; None where it is no quantity."""
    text = str(value)
    return parse(text) if is_quantity(text) else None
