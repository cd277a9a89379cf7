"""A Hub that speaks the real HTTP protocol: models and datasets, uploads, tokens by role, gates, bad days to order.

`state` is what a test sets up and looks at; `server` moves bytes and orders faults; `routes` finds who answers a request;
`reading` and `writing` answer; `access` decides who may. Everything is in memory but what was given as a folder.
"""

from tests.support.stub_hub.server import stub_hub
from tests.support.stub_hub.state import (
    COMMITS,
    FINE_GRAINED_TOKEN,
    OTHER_TOKEN,
    READ_TOKEN,
    TOKEN,
    Account,
    Commit,
    Fault,
    Repository,
    StubHub,
)

__all__ = [
    "COMMITS",
    "FINE_GRAINED_TOKEN",
    "OTHER_TOKEN",
    "READ_TOKEN",
    "TOKEN",
    "Account",
    "Commit",
    "Fault",
    "Repository",
    "StubHub",
    "stub_hub",
]
