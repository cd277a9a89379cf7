"""Addresses of files as messages, logs and cards may show them. No input or output."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def shown(address: str) -> str:
    """Return the address without the parts that may be secret: user and password, and what follows the path."""
    if "://" not in address:
        return address  # a path, in which a question mark is a character like any other
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
