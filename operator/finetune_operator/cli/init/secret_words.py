"""Recognises secrets among options, variables and values. They go into a Secret, never into a manifest or a message."""

from __future__ import annotations

import re

HUB_TOKEN_OPTIONS = frozenset(
    (
        *("hub_token", "push_to_hub_token", "hf_token", "huggingface_token", "huggingface_hub_token"),
        *("token", "auth_token", "use_auth_token"),
    )
)
"""Options of public programs whose value is an access token of the Hub."""

_HUB_TOKEN = re.compile(r"hf_[A-Za-z0-9]{20,}")
_VALUES = re.compile(
    r"hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[opsu]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}"
    r"|glpat-[A-Za-z0-9_-]{20,}|xox[abprs]-[A-Za-z0-9-]{10,}|A(?:KI|SI)A[A-Z0-9]{16}"
    r"|://[^/\s:@]*:[^/\s@]+@|-----BEGIN [A-Z ]*PRIVATE KEY"
)
_OPTIONS = re.compile(
    r"(^|_)(api_?key|access_key|secret_key|private_key|access_token|api_token|passwd|password|secret)$"
)
_VARIABLES = re.compile(r"(^|_)(token|key|api_?key|secret|passwd|password|pass|pat|credentials?)$")
_SHOWN_MAX = 60


def is_hub_token(value: str) -> bool:
    return _HUB_TOKEN.search(value) is not None


def is_secret_value(value: str) -> bool:
    return _VALUES.search(value) is not None


def is_secret_option(name: str) -> bool:
    """Return whether the value of an option (`wandb_api_key`, hyphens as underscores) is a secret."""
    return _OPTIONS.search(name.lower()) is not None


def is_secret_variable(name: str) -> bool:
    return _VARIABLES.search(name.lower()) is not None


def without_secrets(text: str) -> str:
    return _VALUES.sub("(a secret)", text)


def shown(word: str) -> str:
    """Return a word of a command line for a message: short, and not if it may be a secret."""
    if is_secret_value(word):
        return "(a secret)"
    name, separator, _ = word.partition("=")
    word = f"{name}=..." if separator else word
    return word if len(word) <= _SHOWN_MAX else f"{word[: _SHOWN_MAX - 3]}..."
