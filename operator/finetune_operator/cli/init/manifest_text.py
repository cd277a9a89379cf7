"""Writes a manifest as a person would: short values on one line, a comment where a reader would ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from finetune_operator.cli.init.draft import Comments
from finetune_operator.cli.manifest_files import dump_inline

INLINE_MAX = 100
"""Characters of a line, beyond which a mapping or a list gets a line for each part."""
_ARGUMENTS, _ARGUMENTS_INLINE = ("spec", "script", "args"), 3
_LISTED = (("spec", "env"), ("spec", "volumes"))
"""Lists that have a line for each part."""
_OPEN = (("metadata",), ("spec",), ("spec", "script"))
"""Mappings that are never on one line."""


def manifest_text(document: Mapping[str, Any], comments: Comments) -> str:
    """Return the YAML of a manifest."""
    return "".join(f"{line}\n" for line in _mapping(document, (), comments))


def config_map_text(name: str, files: Mapping[str, str]) -> str:
    """Return the YAML of a ConfigMap with files, as they are."""
    lines = ["apiVersion: v1", "kind: ConfigMap", "metadata:", f"  name: {dump_inline(name)}", "data:"]
    for key, content in files.items():
        lines += _file(key, content)
    return "".join(f"{line}\n" for line in lines)


def _mapping(mapping: Mapping[str, Any], at: tuple[str, ...], comments: Comments) -> Iterator[str]:
    margin = "  " * len(at)
    for key, value in mapping.items():
        path = (*at, key)
        head = f"{margin}{dump_inline(key)}:"
        comment = f"   # {comments[path]}" if path in comments else ""
        if _is_inline(head, value, path, comments):
            yield f"{head} {dump_inline(value)}{comment}"
            continue
        yield f"{head}{comment}"
        if isinstance(value, Mapping):
            yield from _mapping(value, path, comments)
        else:
            yield from (f"{margin}  - {dump_inline(item)}" for item in value)


def _is_inline(head: str, value: Any, path: tuple[str, ...], comments: Comments) -> bool:
    if not isinstance(value, Mapping | list | tuple) or not value:
        return True
    if path in _OPEN or path in _LISTED or (path == _ARGUMENTS and len(value) > _ARGUMENTS_INLINE):
        return False
    has_comments = any(other[: len(path)] == path for other in comments if other != path)
    return not has_comments and len(head) + len(dump_inline(value)) < INLINE_MAX


def _file(key: str, content: str) -> Iterator[str]:
    """Write a file as a literal block; where that would change its bytes, as text in quotes."""
    lines = content.split("\n")
    ending = (
        "" if content.endswith("\n") and not content.endswith("\n\n") else "-" if not content.endswith("\n") else "+"
    )
    plain = all(character.isprintable() or character in "\n\t" for character in content)
    if not plain or not content.strip() or lines[0][:1] in (" ", "\t", ""):
        yield f"  {dump_inline(key)}: {dump_inline(content)}"
        return
    yield f"  {dump_inline(key)}: |{ending}"
    if ending != "-":
        lines.pop()
    yield from (f"    {line}" if line else "" for line in lines)
