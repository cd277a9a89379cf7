"""Reports of progress: what `launch` refuses is said, and stands in the way of no later report."""

from __future__ import annotations

import json
from typing import Any

import pytest

from finetune_trainer.shared.launch_client import LaunchClient
from finetune_trainer.train import progress_reporter
from finetune_trainer.train.progress_reporter import Reporter
from tests.support.serving import Handler, serving


class _Launch(Handler):
    """A `launch` that refuses reports that tell a loss, as bad requests or for the moment."""

    methods = ("POST",)
    heard: list[dict[str, Any]]
    status: int

    def serve(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.heard.append(body)
        self.answer(self.status if "loss" in body and len(self.heard) == 1 else 200)


@pytest.mark.parametrize(
    ("status", "fields", "message"),
    [(400, {"step": 2}, "A report of progress (loss, step) was refused"), (503, {"step": 2, "loss": 1.5}, None)],
    ids=["never understood", "not now"],
)
def test_a_report_that_was_refused(
    status: int, fields: dict[str, Any], message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_reporter, "PERIOD_SECONDS", 0.01)
    heard: list[dict[str, Any]] = []
    with serving(_Launch, heard=heard, status=status) as address:
        reporter = Reporter(LaunchClient(address, "token"), active=True)
        reporter.tell("a word", step=1, loss=1.5)
        while not heard:
            pass
        reporter.tell(step=2)
        reporter.close()
    later: dict[str, Any] = {}
    for body in heard[1:]:
        later |= body
    messages = [text for body in heard[1:] for text in body.get("messages", [])]
    assert "a word" in messages
    assert {name: later[name] for name in later if name != "messages"} == fields | {"stepSeconds": []}
    assert [text.startswith(message or "?") for text in messages if text != "a word"] == [True] * (message is not None)


def test_what_is_no_report_at_all_ends_no_reporting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_reporter, "PERIOD_SECONDS", 0.01)
    heard: list[dict[str, Any]] = []
    with serving(_Launch, heard=heard, status=200) as address:
        reporter = Reporter(LaunchClient(address, "token"), active=True)
        reporter.tell(step="the first")
        while not heard:
            pass
        reporter.tell(step=2)
        reporter.close()
    assert heard[-1]["step"] == 2
