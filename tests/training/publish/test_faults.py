"""A Hub that is down, busy or far away: it is published all the same, in one commit, or the deadline says no."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.shared.failures import ExpectedError
from tests.support.published import FILES, Publishing, hub_with_base, seal_model
from tests.support.stub_hub import TOKEN, Fault, StubHub

ROUTES = (
    ("HEAD", "/us/tiny/resolve/"),
    ("GET", "/us/tiny/resolve/"),
    ("GET", "/api/models/me/reviews/revision/v2"),
    ("POST", "/api/repos/create"),
    ("POST", "/api/models/me/reviews/branch/v2"),
    ("POST", "/api/validate-yaml"),
    ("POST", "/preupload/v2"),
    ("POST", "/info/lfs/objects/batch"),
    ("PUT", "/lfs/models/me/reviews/"),
    ("POST", "/verify"),
    ("POST", "/commit/v2"),
    ("GET", "/api/models/me/reviews/revision/[0-9a-f]{40}"),
)
"""Every request that publishing to a branch of a new repository makes."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[StubHub]:
    with hub_with_base(tmp_path) as stub:
        yield stub


@pytest.fixture
def publishing(hub: StubHub, tmp_path: Path) -> Publishing:
    job = Publishing(tmp_path / "job", hub.endpoint, TOKEN)
    seal_model(job.layout)
    return job


def tries(publishing: Publishing) -> list[str]:
    return [line for line in publishing.messages if line.startswith("try ")]


def assert_published(hub: StubHub, commit: str, branch: str = "main") -> None:
    """Require that all of it is published, in one commit, under the base model's licence."""
    repository = hub.models["me/reviews"]
    assert [pushed.oid for pushed in repository.commits] == [commit]
    files = repository.files(branch)
    assert {name: files[name] for name in FILES} == FILES
    assert b"license: mit" in files["README.md"]


def test_every_route_in_turn_is_down(hub: StubHub, publishing: Publishing) -> None:
    for method, path in ROUTES:
        # what was sent is there at the next try, so that it is verified once at most
        hub.faults.append(Fault(method=method, path=path, times=1 if path == "/verify" else 2))
    published = publishing.run(publish={"revision": "v2"})
    assert_published(hub, published.commit, "v2")
    assert all(fault.times == 0 for fault in hub.faults), "each of them was asked"
    assert len(tries(publishing)) == 2 * len(ROUTES) - 1
    assert len({(request.split()[0], request.split("?")[0]) for request in hub.asked}) == len(ROUTES), (
        "there is no other"
    )


@pytest.mark.parametrize("status", [408, 429, 500, 502, 504])
def test_other_answers_that_pass(hub: StubHub, publishing: Publishing, status: int) -> None:
    hub.faults += [Fault(path="preupload", status=status), Fault(path="/commit/", status=status)]
    assert_published(hub, publishing.run().commit)
    assert [f"it answered {status}" in line for line in tries(publishing)] == [True, True]


def test_every_route_in_turn_is_cut(hub: StubHub, publishing: Publishing) -> None:
    for method, path in ROUTES:
        hub.faults.append(Fault(method=method, path=path, cut=True))
    assert_published(hub, publishing.run(publish={"revision": "v2"}).commit, "v2")
    assert all(fault.times == 0 for fault in hub.faults)
    # A HEAD has nothing to cut, a download is gone on with; a connection that was kept may turn out to be cut as well.
    assert len(tries(publishing)) >= len(ROUTES) - 2


def test_a_commit_whose_answer_is_lost_is_not_made_twice(hub: StubHub, publishing: Publishing) -> None:
    for method, path in (("POST", "repos/create"), ("PUT", ""), ("POST", "/commit/")):
        hub.faults.append(Fault(method=method, path=path, lost=True))
    assert_published(hub, publishing.run().commit)
    assert len(tries(publishing)) >= 3


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_ended_at_any_request_the_next_try_completes(
    hub: StubHub, publishing: Publishing, method: str, path: str
) -> None:
    """The process ends as a pod that is lost: what it asked for was done, and nobody was there to hear of it."""
    hub.faults.append(Fault(method=method, path=path, lost=True))
    if path != "/us/tiny/resolve/":  # its licence is asked for once more, and known in the end
        with pytest.raises(ExpectedError):
            publishing.run(seconds=0.0, publish={"revision": "v2"})
    assert_published(hub, publishing.run(publish={"revision": "v2"}).commit, "v2")


def test_what_was_sent_is_not_sent_again(hub: StubHub, publishing: Publishing) -> None:
    hub.faults.append(Fault(path="/commit/", times=3))
    assert_published(hub, publishing.run().commit)
    assert len([request for request in hub.asked if request.startswith("PUT")]) == 1


@pytest.mark.parametrize("route", ["preupload", "/commit/", "/verify"])
def test_the_hub_is_given_the_time_that_it_asks_for(hub: StubHub, publishing: Publishing, route: str) -> None:
    hub.faults.append(Fault(path=route, status=429, headers={"Retry-After": "1"}))
    began = time.monotonic()
    assert_published(hub, publishing.run().commit)
    assert time.monotonic() - began >= 1.0


def test_no_wait_goes_beyond_the_deadline(hub: StubHub, publishing: Publishing) -> None:
    hub.faults.append(Fault(path="preupload", times=99, status=429, headers={"Retry-After": "86400"}))
    with pytest.raises(ExpectedError, match=r"preupload/main: it answered 429") as raised:
        publishing.run(seconds=1.0)
    assert (raised.value.reason, raised.value.cause) == (Reason.HUB_UNAVAILABLE, Cause.ERROR)


def test_nobody_answers(publishing: Publishing) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        publishing.endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ExpectedError, match="ConnectError") as raised:
            publishing.run(seconds=0.5)
    assert raised.value.reason is Reason.HUB_UNAVAILABLE


def test_a_slow_hub_is_waited_for(hub: StubHub, publishing: Publishing) -> None:
    hub.faults.append(Fault(path="/commit/", status=None, delay_seconds=1.0))
    assert_published(hub, publishing.run().commit)
    assert not tries(publishing)


def test_somebody_else_commits_meanwhile(hub: StubHub, publishing: Publishing) -> None:
    hub.faults.append(Fault(path="/commit/", status=412, error="A commit has happened since. Please refresh."))
    assert_published(hub, publishing.run().commit)
