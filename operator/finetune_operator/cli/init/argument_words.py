"""Groups the arguments of a program: an option with the words that follow it. Pure; knows no option by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_OPTION = re.compile(r"--?[A-Za-z]")
_REFERENCE = re.compile(r"\$\([A-Za-z_][A-Za-z0-9_]*\)")
_TRUE = frozenset(("true", "t", "yes", "y", "1"))
_FALSE = frozenset(("false", "f", "no", "n", "0"))


@dataclass(frozen=True)
class Argument:
    """An option and the words up to the next one, or words that belong to no option."""

    option: str
    """As it was written: `--output-dir`; empty for words without an option."""
    values: tuple[str, ...] = ()
    joined: bool = False
    """It was written as `--option=value`, and has no further value."""

    @property
    def name(self) -> str:
        """The option's name with underscores and without hyphens before it."""
        return self.option.lstrip("-").replace("-", "_")

    @property
    def value(self) -> str:
        return self.values[0] if self.values else ""

    @property
    def is_on(self) -> bool:
        """Whether the option of a switch is given, and not switched off."""
        return self.value.lower() not in _FALSE

    @property
    def is_switch(self) -> bool:
        """Whether the option has no value, or one that says yes or no."""
        return not self.values or self.value.lower() in _TRUE | _FALSE

    def further(self, *, switch: bool = False) -> tuple[str, ...]:
        """Return the words that stay where the option is taken out with its value. A switch has one only if it says yes or no."""
        return self.values if switch and not self.joined and not self.is_switch else self.values[1:]

    def written(self, values: Iterable[str]) -> list[str]:
        """Return the words of the argument with other values in place of its own."""
        if self.joined:
            return [f"{escaped(self.option)}={value}" for value in values]
        return [escaped(self.option), *values] if self.option else list(values)


def grouped(words: Sequence[str]) -> list[Argument]:
    """Group the arguments of a program. What follows `--` belongs to no option."""
    groups: list[Argument] = []
    option, values = "", list[str]()

    def close() -> None:
        if option or values:
            groups.append(Argument(option, tuple(values)))

    for number, word in enumerate(words):
        if word == "--":
            close()
            groups.append(Argument("", tuple(words[number:])))
            return groups
        if not _OPTION.match(word):
            values.append(word)
            continue
        close()
        name, separator, value = word.partition("=")
        option, values = ("", []) if separator else (word, [])
        if separator:
            groups.append(Argument(name, (value,), joined=True))
    close()
    return groups


def escaped(word: str) -> str:
    """Return a word so that a job passes it on as it is: `$(NAME)` would be replaced by a variable."""
    return _REFERENCE.sub(r"$\g<0>", word)
