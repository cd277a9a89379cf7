"""The parts of a model that no text passes: those that read pictures, films and sounds, and those that join them to the text.

They stay in the model as they are, and have neither gradients nor optimizer states.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from finetune_trainer.data.data_errors import names

NAMES_SHOWN = 4
JOINING = ("projector", "connector", "vision", "visual", "audio", "image")
"""Parts of the names of modules that join pictures and sounds to the text."""
TEXT = ("text_config", "text_encoder", "encoder", "decoder", "generator")
"""Names that configurations have for parts that read or write text."""


def freeze(model: Any) -> tuple[str, ...]:
    """Freeze the towers of a model; return their paths."""
    paths = tuple(towers(model))
    for path in paths:
        model.get_submodule(path).requires_grad_(False)
    return paths


def message(paths: Sequence[str]) -> str:
    """Return the message on parts that are not trained."""
    return (
        f"Of the model {names(list(paths), NAMES_SHOWN)} read pictures or sounds, which no text passes: they are not trained, "
        "and are kept in the model as they are."
    )


def towers(model: Any) -> Iterator[str]:
    """Yield the paths of the topmost modules that belong to pictures or sounds alone."""
    other, text = _kinds_of_parts(model.config)
    if other or text:
        yield from _towers(model, "", other, text)
    yield from _cross_attention(model)


def _cross_attention(model: Any) -> Iterator[str]:
    """Yield the layers between those of the text that a model leaves out where there is no picture (Llama 3.2 Vision)."""
    for path, module in model.named_modules():
        for number in getattr(module, "cross_attention_layers", None) or ():
            if number < len(module.layers):
                yield f"{path}.layers.{number}" if path else f"layers.{number}"


def _towers(module: Any, path: str, other: set[type], text: set[type]) -> Iterator[str]:
    for name, child in module.named_children():
        below = f"{path}{name}"
        kinds = {type(part.config) for part in child.modules() if hasattr(part, "config")}
        if not any(True for _ in child.parameters()):
            continue
        if kinds & text:
            config = getattr(child, "config", None)
            if type(config) not in text or _kinds_of_parts(config)[0]:
                yield from _towers(child, f"{below}.", other, text)
        elif kinds & other or any(part in name for part in JOINING):
            yield below


def _kinds_of_parts(config: Any) -> tuple[set[type], set[type]]:
    """Return the classes of the configurations of a model's parts: of pictures and sounds, and of text."""
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
