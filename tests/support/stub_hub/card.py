"""The metadata on top of a card, and the Hub's objections to it."""

from __future__ import annotations

import re
from typing import Any

import yaml


def metadata(text: str) -> dict[str, Any]:
    """Return the YAML block of a card; empty where there is none or it is broken."""
    try:
        metadata = yaml.safe_load(_block(text) or "{}")
    except yaml.YAMLError:
        return {}
    return metadata if isinstance(metadata, dict) else {}


def problems(text: str) -> list[str]:
    """Return the Hub's objections: YAML that cannot be read, types, and an incomplete `model-index`."""
    block = _block(text)
    if block is None:
        return []
    try:
        metadata = yaml.safe_load(block)
    except yaml.YAMLError as error:
        return [f"YAML Metadata Error: {error}"]
    if not isinstance(metadata, dict):
        return ["YAML Metadata Error: must be an object"]
    wrong = [
        f'"{key}" must be a string' for key in ("license", "pipeline_tag") if not isinstance(metadata.get(key, ""), str)
    ]
    wrong += [f'"{key}" must be an array of strings' for key in ("tags",) if not _is_list(metadata.get(key, []))]
    return wrong + [problem for entry in metadata.get("model-index", []) for problem in _index_problems(entry)]


def _block(text: str) -> str | None:
    match = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    return match[1] if match else None


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _index_problems(entry: dict[str, Any]) -> list[str]:
    wrong = [] if entry.get("name") else ['"model-index[].name" is required']
    for result in entry.get("results", []):
        for part, keys in (("task", ("type",)), ("dataset", ("type", "name"))):
            wrong += [f'"{part}.{key}" is required' for key in keys if not result.get(part, {}).get(key)]
        for metric in result.get("metrics") or [{}]:
            wrong += [f'"metrics[].{key}" is required' for key in ("type", "value") if key not in metric]
    return wrong
