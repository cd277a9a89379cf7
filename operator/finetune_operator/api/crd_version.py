"""A comparison of the definition of FineTuneJob in the cluster with the one that this operator needs. Pure.

The API server drops fields that an older definition does not know, from `status` too: counters of attempts would be lost
and restarts would have no end. So the operator does not begin before the definition has all fields that it writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from finetune_operator.api import crd
from finetune_operator.api.structural import PRESERVE_UNKNOWN, Schema

SHOWN = 5
_COMPONENT = ".FineTuneJob"


def status_lacks(document: dict[str, Any]) -> tuple[str, ...]:
    """List the fields and values of `status` that this operator writes and the cluster would drop or refuse.

    `document`: the API server's OpenAPI document of the group and version. The list is empty where the document has no definition.
    """
    return _lacks(document, "status")


def spec_lacks(document: dict[str, Any]) -> tuple[str, ...]:
    """List the fields of `spec` that this operator knows and that users of this cluster cannot give."""
    return _lacks(document, "spec")


def in_short(fields: tuple[str, ...]) -> str:
    """Name the first few fields, and count the others."""
    rest = len(fields) - SHOWN
    return ", ".join(fields[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _lacks(document: dict[str, Any], part: str) -> tuple[str, ...]:
    schemas: dict[str, Schema] = (document.get("components") or {}).get("schemas") or {}
    served = next((schema for name, schema in schemas.items() if name.endswith(_COMPONENT)), None)
    if served is None:
        return ()
    return tuple(_missing(crd.schema()["properties"][part], (served.get("properties") or {}).get(part), part))


def _missing(ours: Schema, theirs: Schema | None, path: str) -> Iterator[str]:
    if theirs is None:
        yield path
        return
    if theirs.get(PRESERVE_UNKNOWN):
        return
    if "enum" in theirs:
        yield from (f"{path}: {value}" for value in ours.get("enum", ()) if value not in theirs["enum"])
    for name, child in ours.get("properties", {}).items():
        yield from _missing(child, (theirs.get("properties") or {}).get(name), f"{path}.{name}")
    if "items" in ours:
        yield from _missing(ours["items"], theirs.get("items"), f"{path}[]")
