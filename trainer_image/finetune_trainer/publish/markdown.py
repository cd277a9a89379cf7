"""Names that others gave, in a model card: in its metadata, a cell of a table, between backticks, in an address. Pure.

A name of a dataset, a column, a label or a metric can hold anything. It is shown as it is, and is never markup.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import yaml

from finetune_trainer.contract.text import printable

NOTHING = "?"
"""The text in place of a name that has nothing to show."""
NAME_MAX = 200
"""Largest number of characters of a name."""
_MARKUP = re.compile(r"[\\`*_\[\]<>|~$&]|^[-+#=]|(?<=^\d)[.)](?=\s|$)")
_ADDRESS_SAFE = ":/?#@!$&'*+,;=%~"


def cell(text: str) -> str:
    """Escape text of a paragraph or of a table's cell: on one line, no character of it has a meaning in Markdown or HTML."""
    return _MARKUP.sub(lambda match: match[0] if _within_word(match) else f"\\{match[0]}", _one_line(text) or NOTHING)


def _within_word(match: re.Match[str]) -> bool:
    """Tell whether a `_` stands between letters, where it emphasises nothing; several in a row count as one."""
    before, after = match.string[: match.start()].rstrip("_"), match.string[match.end() :].lstrip("_")
    return match[0] == "_" and before[-1:].isalnum() and after[:1].isalnum()


def code(value: Any) -> str:
    """Write text between backticks, also in a table: backticks and bars in it are replaced."""
    text = _one_line(str(value)).replace("`", "'").replace("|", "/")
    return f"`{text or NOTHING}`"


def address(text: str) -> str:
    """Escape an address as the target of a link."""
    return quote(text, safe=_ADDRESS_SAFE)


def front_matter(data: Mapping[str, Any]) -> str:
    """Write the YAML in front of a card. Every value is on one line: none can look like the end of the block."""
    text = _dumped(data, allow_unicode=True)
    return text if text.replace("\n", "").isprintable() else _dumped(data, allow_unicode=False)


def _one_line(text: str) -> str:
    return " ".join(printable(text, NAME_MAX).split())


class _MetadataDumper(yaml.SafeDumper):
    """A YAML dumper that quotes and escapes texts with line breaks or control characters."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_MetadataDumper.add_representer(str, _text)


def _dumped(data: Mapping[str, Any], *, allow_unicode: bool) -> str:
    dumped: str = yaml.dump(
        dict(data),
        Dumper=_MetadataDumper,
        sort_keys=False,
        allow_unicode=allow_unicode,
        width=math.inf,
        default_flow_style=False,
    )
    return dumped.rstrip("\n")
