"""`python -m finetune_trainer publish` as the pod runs it: killed, stopped, late; its log and its records."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from finetune_trainer.contract.records import Outcome, Reason, ResultRecord
from finetune_trainer.contract.run_config import Env
from tests.support.launched import until
from tests.support.patience import PATIENCE_SECONDS
from tests.support.published import FILES, Publishing, hub_with_base, seal_model
from tests.support.ranks import PACKAGES
from tests.support.stub_hub import TOKEN, Fault, StubHub


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[StubHub]:
    with hub_with_base(tmp_path) as stub:
        yield stub


class Pods:
    """The pods of one job that publish, one after another, on one claim."""

    def __init__(self, folder: Path, hub: StubHub) -> None:
        self.folder = folder
        self._publishing = Publishing(folder / "job", hub.endpoint, TOKEN)
        seal_model(self._publishing.layout, {"training_args.bin": TOKEN.encode()})
        self.started: list[subprocess.Popen[bytes]] = []

    @property
    def volume(self) -> Path:
        return self._publishing.layout.output

    def start(self, *, seconds: float | None = None) -> subprocess.Popen[bytes]:
        number = len(self.started) + 1
        home = self.folder / str(number)
        home.mkdir()
        (home / "run.json").write_text(self._publishing.config().to_json(), encoding="utf-8")
        env: dict[str, str] = {
            **os.environ,
            "PYTHONPATH": str(PACKAGES),
            "HF_HUB_OFFLINE": "1",  # as the user may have set it for the training
            Env.CONFIG: str(home / "run.json"),
            Env.ATTEMPT: str(number),
            Env.TERMINATION_LOG: str(home / "termination-log"),
        }
        if seconds is not None:
            env[Env.DEADLINE] = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
        with (home / "output").open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "finetune_trainer", "publish"], env=env, stdout=output, stderr=subprocess.STDOUT
            )
        self.started.append(process)
        return process

    def output(self) -> str:
        """Return the output of the newest pod."""
        return (self.folder / str(len(self.started)) / "output").read_text(encoding="utf-8")

    def record(self) -> ResultRecord:
        """Return the record of the newest pod, the same in the termination log and on the volume."""
        text = (self.folder / str(len(self.started)) / "termination-log").read_text(encoding="utf-8")
        assert json.loads(self._publishing.layout.run.publish_record.read_text(encoding="utf-8")) == json.loads(text)
        record = ResultRecord.model_validate_json(text)
        assert (record.role, record.uid, record.attempt) == ("publish", "u", len(self.started))
        return record


@pytest.fixture
def pods(tmp_path: Path, hub: StubHub) -> Iterator[Pods]:
    job_pods = Pods(tmp_path, hub)
    yield job_pods
    for process in job_pods.started:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Yield an event: when it is set, the Hub answers what was held back."""
    event = threading.Event()
    yield event
    event.set()


def hold(hub: StubHub, release: threading.Event, method: str, path: str = "") -> Fault:
    """Let a request wait for its answer."""
    fault = Fault(method=method, path=path, status=None, held=release)
    hub.faults.insert(0, fault)
    return fault


def test_killed_and_stopped_half_way_the_next_one_completes(hub: StubHub, pods: Pods, release: threading.Event) -> None:
    sending = hold(hub, release, "PUT")
    killed = pods.start()
    until(lambda: sending.times == 0)
    killed.kill()
    killed.wait()
    assert not hub.models["me/reviews"].commits

    # The Hub is at work on this commit for longer than its pod lives.
    committing = hold(hub, release, "POST", "/commit/")
    stopped = pods.start()
    until(lambda: committing.times == 0)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(PATIENCE_SECONDS) == 143, "before the Hub has answered"
    assert pods.record().outcome is Outcome.STOPPED
    assert pods.output().endswith("publish: stopped\n")

    hub.faults.append(Fault(path="/preupload/"))
    assert pods.start().wait(PATIENCE_SECONDS) == 0, pods.output()
    release.set()
    until(lambda: committing.done)
    record = pods.record()
    repository = hub.models["me/reviews"]
    assert record.outcome is Outcome.SUCCEEDED
    assert record.hub is not None
    assert [commit.oid for commit in repository.commits] == [record.hub.commit]
    assert repository.files().keys() == {*FILES, "README.md", ".gitattributes"}
    lines = pods.output().splitlines()
    assert all(line.startswith("publish: ") for line in lines), "plain lines, all of them ours"
    assert lines[-1] == f"publish: me/reviews has it: commit {record.hub.commit}"
    assert [line for line in lines if "it answered 503" in line]

    texts = [path.read_bytes() for path in pods.folder.rglob("*") if path.is_file() and path.name != "token"]
    sealed = pods.volume / "reviews/runs/u/attempts/1/model/training_args.bin"
    assert [text for text in texts if TOKEN.encode() in text] == [sealed.read_bytes()], "the token is nowhere else"
    assert not [content for content in repository.files().values() if TOKEN.encode() in content]


def test_past_the_deadline_it_ends_with_what_was_last_said(hub: StubHub, pods: Pods) -> None:
    hub.faults.append(Fault(path="/api/", times=9999))
    assert pods.start(seconds=3.0).wait(PATIENCE_SECONDS) == 1
    record = pods.record()
    assert record.outcome is Outcome.FAILED
    assert record.failure is not None
    assert record.failure.reason is Reason.HUB_UNAVAILABLE
    assert "it answered 503" in record.failure.message
