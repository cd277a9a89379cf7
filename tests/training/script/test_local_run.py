"""`finetune run` of a program that lies beside its manifest."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.local_run import LocalRun
from tests.support.patience import PATIENCE_SECONDS
from tests.support.script_launches import PROGRAMS


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalRun]:
    made = LocalRun(tmp_path, script={"launcher": "python", "configMap": {"name": "code", "key": "train.py"}})
    shutil.copy(PROGRAMS / "counting.py", tmp_path / "train.py")
    yield made
    made.close()


def test_interrupted_program_goes_on_at_the_next_run_and_its_model_is_printed(local: LocalRun, tmp_path: Path) -> None:
    go = tmp_path / "go"
    assert local.script is not None
    local.script |= {"args": ["--pause_at=3", f"--go={go}", "--print=text"], "progressPattern": "step (?P<step>[0-9]+)"}
    stopped = local.start()
    local.wait_until(lambda status: (status.get("progress") or {}).get("step") == 3)
    stopped.send_signal(signal.SIGINT)
    assert stopped.wait(PATIENCE_SECONDS) == 130, local.errors()
    assert local.output().splitlines()[-1] == "Interrupted. The same command goes on from the checkpoint of step 3."
    assert local.processes() == []

    go.touch()
    assert local.finish() == 0, local.errors()
    status = local.status()
    assert (status["phase"], status["attempt"], status["resumedFrom"]["step"]) == ("Succeeded", 2, 3)
    name, folder = local.output().splitlines()[-1].split()
    assert (name, json.loads((Path(folder) / "model.json").read_text())) == ("model", {"step": 6})
    assert local.processes() == []
