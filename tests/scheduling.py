"""Which worker gets which tests next, so that nobody waits for a build while there is other work.

Without workers (`pytest` alone) none of this is in use.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from xdist.scheduler import LoadScopeScheduling

ON_CLUSTER = ("cluster", "e2e")
"""Tiers that need a cluster, each handed out as a whole, both to one worker: there is one cluster, and it costs a start."""


def scope_of(nodeid: str) -> str:
    """What is handed out together with this test: its tier where that needs the cluster, else its file."""
    file = nodeid.split("::", 1)[0]
    tier = Path(file).parts[1]
    return tier if tier in ON_CLUSTER else file


def next_scope(waiting: Sequence[str], *, is_ready: Callable[[str], bool], is_for_others: bool) -> str | None:
    """What a worker gets next: a tier on the cluster once what it needs is built, else the next file.

    `is_for_others` says that another worker has the cluster. Who has nothing else to do gets a tier that is not ready,
    and waits for it; None where there is no work for this worker.
    """
    tiers = [] if is_for_others else [tier for tier in ON_CLUSTER if tier in waiting]
    files = [scope for scope in waiting if scope not in ON_CLUSTER]
    ready = (tier for tier in tiers if is_ready(tier))
    return next(ready, None) or next(iter([*files, *tiers]), None)


class OneCluster(LoadScopeScheduling):
    """Hands out tests by file, and those of each tier that needs the cluster together."""

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
        others = (scopes for other, scopes in self.assigned_work.items() if other is not node)
        is_for_others = any(scope in ON_CLUSTER for scopes in others for scope in scopes)
        scope = next_scope(list(self.workqueue), is_ready=self._is_ready, is_for_others=is_for_others)
        if scope is None:
            node.shutdown()  # it would hold its last test back, waiting for more
            return
        self.workqueue.move_to_end(scope, last=False)
        super()._assign_work_unit(node)
