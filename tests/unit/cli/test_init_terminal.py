"""`finetune init` as a process: its command line, and its questions on a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from finetune_operator.cli.command_errors import ExitCode
from finetune_operator.cli.manifest_files import load

FINETUNE = (sys.executable, "-c", "from finetune_operator.cli import main; main()")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.csv").write_text("text,summary\na,b\n")
    (tmp_path / "multinode.py").write_text("import torch\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("separator", [("--",), ()])
def test_the_command_line_needs_no_quotes(separator: tuple[str, ...]) -> None:
    result = subprocess.run(
        [
            *FINETUNE,
            "init",
            "--name",
            "mine",
            *separator,
            "torchrun",
            "--nproc_per_node",
            "8",
            "multinode.py",
            "--name",
            "x",
        ],
        capture_output=True,
        text=True,
        check=True,
    )

    (job,) = load(result.stdout)
    assert job["metadata"]["name"] == "mine"
    assert job["spec"]["script"]["args"] == ["--name", "x"]


def test_nobody_is_asked_where_there_is_no_terminal() -> None:
    result = subprocess.run([*FINETUNE, "init"], input="", capture_output=True, text=True, check=False)

    assert (result.returncode, result.stdout) == (ExitCode.USAGE, "")
    assert result.stderr.startswith("finetune: nothing to run, and nobody to ask: finetune init -- torchrun")


def answered(answers: list[str], *options: str) -> str:
    """Run `finetune init` on a terminal, type answers, and return what the terminal shows."""
    controller, terminal = os.openpty()
    process = subprocess.Popen([*FINETUNE, "init", *options], stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    os.write(controller, "".join(f"{answer}\n" for answer in answers).encode())
    shown = b""
    while True:
        try:
            block = os.read(controller, 4096)
        except OSError:  # the last process with the terminal has ended
            break
        if not block:
            break
        shown += block
    os.close(controller)
    assert process.wait() == ExitCode.SUCCEEDED, shown.decode()
    return shown.decode()


def test_a_task_is_made_of_answers(folder: Path) -> None:
    shown = answered(
        [
            "",
            "translation",
            "google-t5/t5-small",
            "opus books",
            "Helsinki-NLP/opus_books",
            "two",
            "2",
            "1",
            "",
            "me/t5",
            "",
        ]
    )

    assert "neither a file that is here nor a name on the Hub" in shown
    assert "a number from 1 to 1000" in shown
    (job,) = load((folder / "t5-small-opus-books.yaml").read_text())
    assert job["spec"] == {
        "task": "translation",
        "model": {"name": "google-t5/t5-small"},
        "dataset": {"name": "Helsinki-NLP/opus_books"},
        "nodes": 2,
        "resources": {"limits": {"nvidia.com/gpu": 1}},
        "storage": {"size": "50Gi"},
        "hub": {"tokenSecretRef": {"name": "hf", "key": "token"}},
        "publish": {"repoId": "me/t5"},
    }
    assert (
        "# where yours have other names, add columns: {source: source, target: target}"
        in (folder / "t5-small-opus-books.yaml").read_text()
    )


def test_a_program_is_made_of_answers(folder: Path) -> None:
    answers = ["deepspeed train.py", "torchrun --nproc_per_node 2 multinode.py", "a/b", "", "3", "4", "1Ti", ""]

    shown = answered(answers, "-o", "job.yaml", "--name", "mine")

    assert "accelerate launch --use_deepspeed" in shown
    (job,) = load((folder / "job.yaml").read_text())
    assert job["metadata"]["name"] == "mine"
    assert job["spec"] == {
        "script": {"launcher": "torchrun", "configMap": {"name": "mine-code", "key": "multinode.py"}},
        "model": {"name": "a/b"},
        "nodes": 3,
        "resources": {"limits": {"nvidia.com/gpu": 4}},
        "storage": {"size": "1Ti"},
    }


def test_a_file_of_this_machine_is_a_task_s_data(folder: Path) -> None:
    answered(["", "summarization", "t5-small", "data/train.csv", "", "0", "", "", "job.yaml"])

    (job,) = load((folder / "job.yaml").read_text())
    assert job["spec"]["dataset"] == {"files": {"train": ["/data/train.csv"]}}
    assert job["spec"]["volumes"][0]["claimName"] == "t5-small-train-data"
    assert "resources" not in job["spec"]
