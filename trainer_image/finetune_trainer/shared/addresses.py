"""Addresses of files as messages, logs and cards may show them. No input or output."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def shown(address: str) -> str:
    """Return the address without what may be secret: who signs in, and what follows a question mark."""
    if "://" not in address:
        return address  # a path, in which a question mark is a letter as any other
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
