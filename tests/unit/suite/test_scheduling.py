"""The suite's own order: who gets which tests, with xdist's scheduler and workers that only keep what they are sent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.scheduling import TiersOnClusters, next_scope, scope_of

FILES = ["tests/training/test_a.py", "tests/training/test_b.py", "tests/unit/api/test_c.py", "tests/unit/api/test_d.py"]
CLUSTER = ["tests/cluster/test_e.py", "tests/cluster/test_f.py"]
E2E = ["tests/e2e/test_g.py"]


class Worker:
    """A worker as the scheduler sees it. It runs its tests in order, the last one only when it knows that no more come."""

    def __init__(self) -> None:
        self.queue: list[int] = []
        self.shutting_down = False
        self.ran: list[str] = []
        self.gateway = SimpleNamespace(id="a worker")

    def send_runtest_some(self, indices: list[int]) -> None:
        assert not self.shutting_down
        self.queue += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    def step(self, suite: Suite) -> bool:
        """Run one test, if there is one that may run."""
        if not self.queue or (len(self.queue) == 1 and not self.shutting_down):
            return False
        index = self.queue.pop(0)
        self.ran.append(suite.tests[index])
        suite.scheduler.mark_test_complete(self, index)
        return True


class Suite:
    """A scheduler with workers, and what is built so far."""

    def __init__(self, config: Any, files: list[str], workers: int = 2) -> None:
        self.tests = [f"{file}::test_{number}" for file in files for number in range(5)]
        self.built: set[str] = set()
        self.begun: set[str] = set()
        self.scheduler = TiersOnClusters(config, None, begin=self.begun.update, is_ready=self.built.__contains__)
        self.scheduler.numnodes = workers
        self.workers = [self.add() for _ in range(workers)]

    def add(self) -> Worker:
        worker = Worker()
        self.scheduler.add_node(worker)
        self.scheduler.add_node_collection(worker, self.tests)
        return worker

    def run(self, rounds: int = 1000) -> None:
        for _ in range(rounds):
            if sum(worker.step(self) for worker in self.workers) == 0:
                return


@pytest.fixture
def xdist(pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> pytest.Config:
    """The configuration as `pytest -n 3` has it."""
    monkeypatch.setattr(pytestconfig.option, "tx", ["3*popen"])
    monkeypatch.setattr(pytestconfig.option, "loadscopereorder", False)
    return pytestconfig


def scopes_of(worker: Worker) -> list[str]:
    return list(dict.fromkeys(scope_of(test) for test in worker.ran))


def test_cluster_tier_is_handed_out_whole() -> None:
    """A tier that needs the cluster is handed out as a whole, the rest by file."""
    assert scope_of("tests/cluster/test_e.py::test_1[a/b::c]") == "cluster"
    assert scope_of("tests/unit/api/test_c.py::test_1") == "tests/unit/api/test_c.py"


@pytest.mark.parametrize(
    ("waiting", "built", "is_last_at_files", "next_one"),
    [
        (["cluster", "e2e", "a"], {"cluster", "e2e"}, False, "cluster"),
        (["cluster", "e2e", "a"], {"e2e"}, False, "e2e"),
        (["cluster", "e2e", "a"], set(), False, "a"),
        (["cluster", "e2e", "a"], {"cluster", "e2e"}, True, "a"),
        (["cluster", "e2e"], set(), False, "cluster"),
        (["cluster", "e2e"], {"e2e"}, True, "e2e"),
        (["e2e", "tests/training/a", "tests/unit/b"], set(), False, "tests/unit/b"),
        (["e2e", "tests/training/a", "tests/unit/b"], {"e2e"}, True, "tests/training/a"),
        (["tests/training/a", "tests/unit/b"], set(), False, "tests/training/a"),
    ],
)
def test_the_next_one(waiting: list[str], built: set[str], is_last_at_files: bool, next_one: str) -> None:
    assert next_scope(waiting, is_ready=built.__contains__, is_last_at_files=is_last_at_files) == next_one


def test_with_all_built_one_worker_begins_with_the_cluster(xdist: pytest.Config) -> None:
    suite = Suite(xdist, [*CLUSTER, *E2E, *FILES])
    suite.built |= {"cluster", "e2e"}
    suite.scheduler.schedule()
    assert suite.begun == {"cluster", "e2e", *FILES}
    suite.run()

    first, second = suite.workers
    assert scopes_of(first)[:2] == ["cluster", "e2e"]
    assert not {"cluster", "e2e"} & set(scopes_of(second))
    assert sorted(first.ran + second.ran) == sorted(suite.tests)
    assert suite.scheduler.tests_finished


def test_while_something_is_built_both_work_on_the_rest(xdist: pytest.Config) -> None:
    suite = Suite(xdist, [*CLUSTER, *E2E, *FILES])
    suite.scheduler.schedule()
    suite.run(rounds=4)
    quick = FILES[2:]
    assert [scopes_of(worker) for worker in suite.workers] == [[quick[0]], [quick[1]]]

    suite.built.add("cluster")
    suite.run()
    last = {scopes_of(worker)[-1] for worker in suite.workers}
    assert last == {"cluster", "e2e"}, "who has nothing else to do waits for what is still built"
    assert sorted(test for worker in suite.workers for test in worker.ran) == sorted(suite.tests)


def test_of_three_workers_one_goes_on_with_the_files(xdist: pytest.Config) -> None:
    suite = Suite(xdist, [*CLUSTER, *E2E, *FILES], workers=3)
    suite.built |= {"cluster", "e2e"}
    suite.scheduler.schedule()
    suite.run(rounds=3)
    assert [scopes_of(worker) for worker in suite.workers] == [["cluster"], ["e2e"], [FILES[0]]]

    suite.run()
    assert sorted(test for worker in suite.workers for test in worker.ran) == sorted(suite.tests)
    assert suite.scheduler.tests_finished


def test_tier_of_dead_worker_is_taken_over(xdist: pytest.Config) -> None:
    """Each worker has a tier where there are no files, and one takes over from a worker that died."""
    suite = Suite(xdist, [*CLUSTER, *E2E])
    suite.built |= {"cluster", "e2e"}
    suite.scheduler.schedule()
    suite.run(rounds=3)
    first, second = suite.workers
    assert [scopes_of(worker) for worker in suite.workers] == [["cluster"], ["e2e"]]

    crashed = suite.scheduler.remove_node(first)
    assert crashed == suite.tests[3]
    suite.workers = [suite.add(), second]
    suite.scheduler.schedule()
    suite.run()
    assert suite.workers[0].ran == suite.tests[3:10]
    assert suite.scheduler.tests_finished
