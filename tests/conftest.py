"""Fixtures that stand for real things: a control plane, a cluster with nodes and images, a namespace in either.

Tiers are folders (unit, training, cluster, e2e, gpu) and run in this order, so that what takes long to prepare
(binaries, images) is prepared in the background while the first ones run. A tier that this machine can't run is skipped
with the reason, and fails where CI=true.

With workers (`pytest -n 3`, as `make test` does) each of the cluster and e2e tiers goes as a whole to one of them, as soon as what it
needs is built; what else there is goes to the workers file by file.
"""

import os
import uuid
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import pytest

from tests.scheduling import ON_CLUSTER, TiersOnClusters
from tests.support import machine
from tests.support.cache import cache_folder
from tests.support.cluster import guard
from tests.support.cluster.binaries import binaries
from tests.support.cluster.client import Client, ExistingCluster
from tests.support.cluster.control_plane import ControlPlane
from tests.support.cluster.nodes import NodeCluster
from tests.support.images.background import Preparation
from tests.support.images.store import store_folder

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # as in pods: the client would ask the public Hub who calls it

# Workers share the cores, and a second thread of a tiny model mostly waits for the first: with one each, training takes half of the
# processor time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

hypothesis.settings.register_profile("patient", deadline=None)  # how busy the machine is proves nothing
hypothesis.settings.load_profile("patient")

TESTS = Path(__file__).parent
TIERS = ("unit", "training", "cluster", "e2e", "gpu")
PREPARATION = pytest.StashKey[Preparation]()
NO_GPU = pytest.StashKey[str]()


def tier_of(item: pytest.Item) -> str:
    """Return the tier that a test belongs to: its first folder."""
    return item.path.relative_to(TESTS).parts[0]


def pytest_collection_modifyitems(config: Any, items: list[pytest.Item]) -> None:
    """Put quick tiers first; within a tier the order stays. The gpu tier alone may be absent.

    With workers the long ones come first, so that all workers end at about the same time.
    """
    items.sort(key=lambda item: TIERS.index(tier) if (tier := tier_of(item)) in TIERS else len(TIERS))
    if _is_worker(config):
        items.sort(key=lambda item: (tier_of(item) not in ON_CLUSTER, tier_of(item) == "unit"))
    gpu = [item for item in items if tier_of(item) == "gpu"]
    if gpu and not machine.has_cuda():
        config.stash[NO_GPU] = f"gpu tier: there is no CUDA device here, its {len(gpu)} tests were not run"
        if _is_worker(config):
            config.workeroutput["no_gpu"] = config.stash[NO_GPU]
        config.hook.pytest_deselected(items=gpu)
        items[:] = [item for item in items if tier_of(item) != "gpu"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TiersOnClusters:
    """Hand out tests to workers by tier and file."""
    config.option.loadscopereorder = False

    def is_ready(tier: str) -> bool:
        return PREPARATION not in config.stash or config.stash[PREPARATION].has_built(tier)

    return TiersOnClusters(config, log, begin=lambda scopes: _prepare(config, set(scopes)), is_ready=is_ready)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Note what a worker that ended has left out."""
    if line := getattr(node, "workeroutput", {}).get("no_gpu"):
        node.config.stash[NO_GPU] = line


def _is_worker(config: Any) -> bool:
    return hasattr(config, "workerinput")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out, in one plain line."""
    if line := config.stash.get(NO_GPU, None):
        terminalreporter.line(line)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin to build what the later tiers need while the earlier ones run."""
    if not session.config.option.collectonly and not _is_worker(session.config):
        _prepare(session.config, {tier_of(item) for item in session.items})


def _prepare(config: pytest.Config, tiers: Set[str]) -> None:
    if not tiers.isdisjoint(ON_CLUSTER) and not machine.why_no_own_cluster():
        config.stash[PREPARATION] = Preparation.begin(images="e2e" in tiers)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what is still being built when the tests have ended early."""
    if preparation := config.stash.get(PREPARATION, None):
        preparation.end()


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Client]:
    """A real API server with its controllers and the project's resource definitions; no nodes."""
    if reason := machine.why_no_own_cluster():
        yield _existing_cluster(reason)
        return
    folder = cache_folder("clusters") / f"c{os.getpid()}"
    with guard.guarded(folder):
        control_plane = ControlPlane(folder, binaries())
        control_plane.start()
        control_plane.install_crds()
        yield control_plane


@pytest.fixture
def audited(control_plane: Client) -> ControlPlane:
    """The control plane, where every request that was made can be read."""
    if not isinstance(control_plane, ControlPlane):
        _cannot_run("the requests of one user are counted in an audit log, which only a cluster of the tests' own has")
    return control_plane


@pytest.fixture(scope="session")
def cluster() -> Iterator[NodeCluster]:
    """A real cluster with two nodes that have the project's images."""
    if reason := machine.why_no_own_cluster():
        _cannot_run(f"the end-to-end tests kill nodes and read their volumes, which takes {reason}")
    Preparation.begin(images=True, log="preparation-seen-to").wait()  # what began with the tests is a head start alone
    folder = cache_folder("clusters") / f"e{os.getpid()}"
    with guard.guarded(folder, with_nodes=True):
        cluster = NodeCluster(folder, binaries(), nodes=2, image_store=store_folder())
        cluster.start()
        cluster.install_crds()
        yield cluster


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh namespace in the cluster of the test's tier."""
    in_e2e = tier_of(request.node) == "e2e"
    client: Client = request.getfixturevalue("cluster" if in_e2e else "control_plane")
    name = f"test-{uuid.uuid4().hex[:8]}"
    client.create_namespace(name)
    yield name
    client.delete_namespace(name)


def _existing_cluster(reason: str) -> Client:
    kubeconfig = machine.given_kubeconfig()
    if kubeconfig is None:
        _cannot_run(f"{reason}; or set KUBECONFIG to a cluster that tests may use")
    try:
        client = ExistingCluster(kubeconfig)
    except LookupError as error:
        _cannot_run(str(error))
    client.install_crds()
    return client


def _cannot_run(reason: str) -> NoReturn:
    if machine.in_ci():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
