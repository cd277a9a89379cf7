"""`finetune_trainer.report`: progress from any program to the `launch` of its pod, and never a reason to fail."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import finetune_trainer
from finetune_trainer import reporting
from finetune_trainer.launch.progress_state import KubeflowStatus
from tests.support.patience import PATIENCE_SECONDS
from tests.support.serving import Handler, serving

PACKAGES = Path(__file__).parents[3] / "trainer_image"
VARIABLES = ("RANK", "NODE_RANK", "KUBEFLOW_TRAINER_SERVER_URL", "KUBEFLOW_TRAINER_SERVER_TOKEN")


class Launch(Handler):
    """The address of `launch`: it keeps what it hears."""

    methods = ("POST", "GET")
    heard: list[dict[str, Any]]
    status = 204

    def serve(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.heard.append({"path": self.path, "headers": dict(self.headers), "body": body})
        self.answer(self.status)


class Clock:
    """The time that `report` sees."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(reporting, "time", SimpleNamespace(monotonic=made))
    monkeypatch.setattr(reporting, "_sent_at", float("-inf"))
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.fixture
def heard(clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[dict[str, Any]]]:
    """Return what `launch` hears of this process, which is one in a job."""
    (tmp_path / "token").write_text("s3cret\n")
    messages: list[dict[str, Any]] = []
    with serving(Launch, heard=messages) as address:
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", f"{address}/kubeflow")
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_TOKEN", str(tmp_path / "token"))
        yield messages


def steps(heard: list[dict[str, Any]]) -> list[int | None]:
    """Return the step of each message, as `launch` reads it."""
    return [KubeflowStatus.model_validate(message["body"]).as_report().step for message in heard]


def test_all_figures_arrive(heard: list[dict[str, Any]]) -> None:
    metrics = {"accuracy": 0.9, "eval_f1": 0.5}
    assert finetune_trainer.report(step=3, total=100, loss=0.5, epoch=0.25, learning_rate=1e-4, metrics=metrics)
    (message,) = heard
    report = KubeflowStatus.model_validate(message["body"]).as_report()
    assert (report.step, report.total_steps, report.loss, report.epoch, report.learning_rate) == (
        3,
        100,
        0.5,
        0.25,
        1e-4,
    )
    assert report.evaluation == {"eval_accuracy": 0.9, "eval_f1": 0.5}
    assert message["path"] == "/kubeflow"
    assert message["headers"]["Authorization"] == "Bearer s3cret"
    assert message["headers"]["Content-Type"] == "application/json"


def test_absent_figures_are_not_sent(heard: list[dict[str, Any]]) -> None:
    assert reporting.report(step=0)
    names = [metric["name"] for metric in heard[0]["body"]["trainerStatus"]["metrics"]]
    assert names == ["current_step"]


def test_at_most_once_a_second(heard: list[dict[str, Any]], clock: Clock) -> None:
    for step in range(100):
        clock.now = 1000 + step / 10
        assert reporting.report(step=step, total=1000) is (step % 10 == 0)
    assert steps(heard) == list(range(0, 100, 10))


def test_last_step_and_metrics_always(heard: list[dict[str, Any]], clock: Clock) -> None:
    assert reporting.report(step=1, total=9)
    assert not reporting.report(step=2, total=9)
    assert reporting.report(step=3, total=9, metrics={"accuracy": 0.5})
    assert not reporting.report(step=4, total=9)
    assert reporting.report(step=9, total=9)
    assert steps(heard) == [1, 3, 9]


@pytest.mark.parametrize(
    ("rank", "node", "sends"),
    [
        (None, None, True),
        ("0", None, True),
        ("1", None, False),
        ("7", "0", False),
        ("0", "0", True),
        ("", "0", True),
        (None, "0", True),
        (None, "1", False),
    ],
)
def test_rank_0_alone_sends(
    heard: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, rank: str | None, node: str | None, sends: bool
) -> None:
    for name, value in (("RANK", rank), ("NODE_RANK", node)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert reporting.report(step=1, metrics={"accuracy": 1}) is sends
    assert len(heard) == sends


def test_outside_a_job_nothing_happens(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("nothing is sent")

    monkeypatch.setattr(socket, "create_connection", refuse)
    assert not reporting.report(step=1, total=1, metrics={"accuracy": 1})


def test_no_proxy_hears_of_it(heard: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    proxied: list[dict[str, Any]] = []
    with serving(Launch, heard=proxied) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert reporting.report(step=1)
    assert (len(heard), proxied) == (1, [])


def test_without_a_token_it_reports_without_one(heard: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBEFLOW_TRAINER_SERVER_TOKEN")
    assert reporting.report(step=1)
    assert "Authorization" not in heard[0]["headers"]


# --- it never raises --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 404, 409, 500, 503])
def test_refusal_is_no_error(clock: Clock, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with serving(Launch, heard=[], status=status) as address:
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", address)
        assert not reporting.report(step=1)


@pytest.mark.parametrize(
    "url",
    ["", "nonsense", "http://", "http://[", "http://127.0.0.1:99999", "http://127.0.0.1:x", "ftp://x", "http://a b/"],
)
def test_address_that_is_none_is_no_error(clock: Clock, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", url)
    assert not reporting.report(step=1)


def test_launch_that_has_gone_is_no_error(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", f"http://127.0.0.1:{port}")
    assert not reporting.report(step=1)


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"])
def test_answer_that_is_none_is_no_error(clock: Clock, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    class Odd(Launch):
        def serve(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.wfile.write(answer)
            self.wfile.flush()
            self.close_connection = True

    with serving(Odd, heard=[]) as address:
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", address)
        assert not reporting.report(step=1)


def test_launch_that_hangs_costs_a_moment(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "_TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", f"http://127.0.0.1:{listening.getsockname()[1]}")
        assert not reporting.report(step=1)


@pytest.mark.parametrize("token", [None, b"\xff\xfe", b"a\nb", b""])
def test_token_that_can_not_be_sent_is_no_error(
    heard: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token: bytes | None
) -> None:
    (tmp_path / "token").unlink()
    if token is not None:
        (tmp_path / "token").write_bytes(token)
    assert reporting.report(step=1) is (token == b"")


def test_odd_numbers_are_no_error(heard: list[dict[str, Any]], clock: Clock) -> None:
    for value in (float("nan"), float("inf"), -1.0, 1e400, 10**400):
        clock.now += 1
        assert reporting.report(step=1, loss=value, metrics={"accuracy": value, "\ud800": 1, "": 1})
    assert steps(heard) == [1] * 5
    KubeflowStatus.model_validate(heard[0]["body"]).as_report().to_json()


def test_failed_report_counts_for_the_pace(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `launch` hangs, a program that reports each step does not wait for it each step."""
    calls = [0]

    def send(url: str, body: object) -> bool:
        calls[0] += 1
        return False

    monkeypatch.setattr(reporting, "_send", send)
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", "http://x")
    for step in range(10):
        reporting.report(step=step)
    assert calls == [1]


def test_program_that_asks_for_it_imports_no_more_than_python_has(tmp_path: Path) -> None:
    """It must work in any image, in a Python of its own."""
    text = (
        "import sys; from finetune_trainer import report; assert report(step=1) is False;"
        "print([name for name in sys.modules if name.startswith(('pydantic', 'structlog', 'aiohttp', 'yaml', 'urllib.request'))])"
    )
    env = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-S", "-c", text],
        env={**env, "PYTHONPATH": str(PACKAGES)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_other_names_of_the_package_are_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'reports'"):
        finetune_trainer.reports  # noqa: B018
