"""Requests to an API server that can't answer: what is repeated, and what the error tells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_operator.kube import client
from finetune_operator.kube.client import Cluster
from finetune_operator.kube.exceptions import Unavailable
from tests.support.serving import Handler, serving


class OutOfOrder(Handler):
    """Answers 500 to everything."""

    methods = ("GET", "POST")
    asked: list[str]

    def serve(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append(self.command)
        self.answer(500, json.dumps({"reason": "InternalError", "message": "failed calling webhook"}).encode())


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def kubeconfig(tmp_path: Path, asked: list[str]) -> Iterator[Path]:
    with serving(OutOfOrder, asked=asked) as address:
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "a", "cluster": {"server": address}}],
            "users": [{"name": "a", "user": {"token": "t"}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
            "current-context": "a",
        }
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(document))
        yield path


async def test_a_creation_is_tried_once_and_its_caller_says_why(kubeconfig: Path, asked: list[str]) -> None:
    server = Cluster(kubeconfig)
    with pytest.raises(Unavailable, match="failed calling webhook"):
        await server.create_once("ns", {"kind": "Job", "metadata": {"name": "yelp-train-1"}})
    await server.close()
    assert asked == ["POST"]


async def test_what_is_read_is_asked_for_again_and_the_error_tells_what(
    kubeconfig: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "RETRY_DELAYS_SECONDS", (0.001, 0.001))
    server = Cluster(kubeconfig)
    with pytest.raises(Unavailable) as error:
        await server.get("ConfigMap", "ns", "labels")
    await server.close()
    assert asked == ["GET"] * 3
    assert error.value.__notes__ == ["GET api/v1/namespaces/ns/configmaps/labels"]


async def test_a_slow_failure_is_not_repeated(
    kubeconfig: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "RETRY_WITHIN_SECONDS", 0.0)
    server = Cluster(kubeconfig)
    with pytest.raises(Unavailable):
        await server.get("ConfigMap", "ns", "labels")
    await server.close()
    assert asked == ["GET"]
