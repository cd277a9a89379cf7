"""What tells the `launch` of a node that its ranks get on."""

from __future__ import annotations

import threading

import pytest

from finetune_trainer.shared.launch_client import LaunchClient, LaunchError
from finetune_trainer.train import progress_reporter
from finetune_trainer.train.progress_reporter import SignsOfLife
from tests.support.patience import PATIENCE_SECONDS


class _Client(LaunchClient):
    """A client that counts what it is told, and fails at first."""

    def __init__(self) -> None:
        super().__init__("http://nowhere", "token")
        self.signalled = threading.Semaphore(0)
        self.count = 0

    def advanced(self) -> None:
        self.count += 1
        self.signalled.release()
        if self.count == 1:
            raise LaunchError("launch does not answer")


def test_a_sign_for_many_steps_and_none_without_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_reporter, "SIGN_SECONDS", 0.01)
    client, silent = _Client(), _Client()
    signs, nobody = SignsOfLife(client, active=True), SignsOfLife(silent, active=False)
    for _ in range(2):  # a sign that could not be told is followed by the next one
        signs.note()
        nobody.note()
        assert client.signalled.acquire(timeout=PATIENCE_SECONDS)
    assert not client.signalled.acquire(timeout=0.1)
    assert client.count == 2
    assert silent.count == 0
