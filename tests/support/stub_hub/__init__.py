"""A Hub that speaks the real HTTP protocol: models and datasets, uploads, tokens by role, gates, faults to order.

`state` is set up and read by tests; `server` moves bytes and plays faults; `routes` finds the function that answers a
request; `reading` and `writing` answer; `access` decides who may. All is in memory but repositories that are folders.
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
