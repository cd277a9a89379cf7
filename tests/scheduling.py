"""Which worker gets which tests next, so that nobody waits for a build while there is other work.

Without workers (`pytest` alone) none of this is in use.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from xdist.scheduler import LoadScopeScheduling

QUICK = "tests/unit/"
"""Where the files lie whose tests are short, and start nothing that could time out."""
ON_CLUSTER = ("cluster", "e2e")
"""Tiers that need a cluster of their own, which costs a start: each is handed out as a whole."""


def scope_of(nodeid: str) -> str:
    """Return what is handed out together with this test: its tier where that needs the cluster, else its file."""
    file = nodeid.split("::", 1)[0]
    tier = Path(file).parts[1]
    return tier if tier in ON_CLUSTER else file


def next_scope(waiting: Sequence[str], *, is_ready: Callable[[str], bool], is_last_at_files: bool) -> str:
    """Choose what a worker gets next of what is `waiting`: a tier on a cluster once what it needs is built, else the next file.

    `is_last_at_files` says that each other worker has a cluster, or had one. Tests there wait more than they compute, so that one
    worker at least goes on with the files, which compute. Who has nothing else to do gets a tier in any case, and waits for what it needs.

    While something is built, which takes the processor first, files come first whose tests watch no clock and are short: so a
    worker is soon free for a tier that has become ready, and what computes for long goes on beside the tiers, which wait.
    """
    tiers = [tier for tier in ON_CLUSTER if tier in waiting]
    ready = [] if is_last_at_files else [tier for tier in tiers if is_ready(tier)]
    files = [scope for scope in waiting if scope not in ON_CLUSTER]
    if not all(map(is_ready, tiers)):
        files.sort(key=lambda scope: not scope.startswith(QUICK))
    late = sorted(tiers, key=is_ready, reverse=True)
    return [*ready, *files, *late][0]


class TiersOnClusters(LoadScopeScheduling):
    """Scheduler that hands out tests by file, and those of each tier that needs a cluster together."""

    def __init__(
        self, config: Any, log: Any, *, begin: Callable[[Iterable[str]], None], is_ready: Callable[[str], bool]
    ) -> None:
        """`begin` is called once, with the scopes of all tests, before the first are handed out."""
        super().__init__(config, log)
        self._begin, self._is_ready = begin, is_ready

    def schedule(self) -> None:
        """Hand out what comes first."""
        if self.collection is None:
            self._begin({scope_of(nodeid) for tests in self.registered_collections.values() for nodeid in tests})
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        others = [scopes for other, scopes in self.assigned_work.items() if other is not node]
        is_last = bool(others) and all(any(scope in ON_CLUSTER for scope in scopes) for scopes in others)
        scope = next_scope(list(self.workqueue), is_ready=self._is_ready, is_last_at_files=is_last)
        self.workqueue.move_to_end(scope, last=False)
        super()._assign_work_unit(node)
