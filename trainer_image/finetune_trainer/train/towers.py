"""Parts of a model that no text passes: what reads pictures, films and sounds, and what joins them to the text.

They stay in the model as they are, and have neither gradients nor optimizer states.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

TEXT = ("text_config", "text_encoder", "encoder", "decoder", "generator")
"""What configurations call their parts that read or write text."""


def freeze(model: Any) -> tuple[str, ...]:
    """Paths of the towers of a model, which nothing trains from now on."""
    found = tuple(towers(model))
    for path in found:
        model.get_submodule(path).requires_grad_(False)
    return found


def towers(model: Any) -> Iterator[str]:
    """Paths of the topmost modules that belong to pictures or sounds alone."""
    other, text = _kinds_of_parts(model.config)
    if not other:
        return
    yield from _towers(model, "", other, text)


def _towers(module: Any, path: str, other: set[type], text: set[type]) -> Iterator[str]:
    for name, child in module.named_children():
        below = f"{path}{name}"
        kinds = {type(part.config) for part in child.modules() if hasattr(part, "config")}
        if not any(True for _ in child.parameters()):
            continue
        if kinds & text:
            if type(getattr(child, "config", None)) not in text:
                yield from _towers(child, f"{below}.", other, text)
        elif kinds & other or _joins(name):
            yield below


def _joins(name: str) -> bool:
    return any(sign in name for sign in ("projector", "connector", "vision", "visual", "audio", "image"))


def _kinds_of_parts(config: Any) -> tuple[set[type], set[type]]:
    """Classes of the configurations of its parts: those of pictures and sounds, and those of text."""
    other, text = set(), set()
    for name in config.sub_configs:
        part = getattr(config, name, None)
        if part is None:
            continue
        if name in TEXT:
            text.add(type(part))
            more, texts = _kinds_of_parts(part)
            other |= more
            text |= texts
        else:
            other.add(type(part))
    return other, text
