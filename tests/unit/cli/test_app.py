"""The command line itself: quick to answer, errors in one line, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from finetune_operator.cli.command_errors import ExitCode

FINETUNE = (sys.executable, "-c", "from finetune_operator.cli import main; main()")
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "reviews.yaml"


def finetune(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FINETUNE, *arguments], capture_output=True, text=True, check=False)


def test_help_imports_nothing_slow() -> None:
    program = (
        "import sys; from finetune_operator.cli.app import app\n"
        "slow = {'torch', 'transformers', 'datasets', 'kubernetes', 'pydantic', 'rich', 'yaml'}\n"
        "print(sorted(slow & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
    result = finetune("--help")
    assert result.returncode == ExitCode.SUCCEEDED
    assert all(command in result.stdout for command in ("run", "render", "validate", "explain"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "nowhere.yaml"), "nowhere.yaml: No such file or directory"),
        (("run", str(EXAMPLE), "--volume", "reviews-data"), "--volume reviews-data: write it as NAME=FOLDER"),
        (("run", str(EXAMPLE), "--volume", "reviews-data=/proc/nowhere"), "there is no folder /proc/nowhere"),
        (("run", str(EXAMPLE), "--work-dir", "/proc/nowhere"), "claim reviews-data has no folder here"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    result = finetune(*arguments)
    assert result.returncode == ExitCode.USAGE
    assert result.stdout == ""
    assert result.stderr.startswith("finetune: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_validate_names_what_is_good_and_what_is_not(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(EXAMPLE.read_text().replace("learning_rate", "learnin_rate"))
    result = finetune("validate", str(EXAMPLE), str(wrong))
    assert result.returncode == ExitCode.FAILED
    assert result.stdout == f"{EXAMPLE}: FineTuneJob reviews is valid\n"
    assert result.stderr.startswith(f"{wrong}: spec.trainingArguments.learnin_rate")


def test_validate_refuses_what_the_operator_would(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(EXAMPLE.read_text() + "  template: {spec: {containers: [{name: trainer, command: [sh]}]}}\n")
    result = finetune("validate", str(wrong))
    assert result.returncode == ExitCode.FAILED
    assert "spec.template.spec.containers[trainer].command: can't be set" in result.stderr


def test_validate_takes_a_file_without_jobs_for_a_mistake(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("{apiVersion: v1, kind: Secret, metadata: {name: x}}\n")
    assert "holds no FineTuneJob" in finetune("validate", str(other)).stderr


def test_two_jobs_in_a_file_are_one_too_many_to_run(tmp_path: Path) -> None:
    both = tmp_path / "both.yaml"
    both.write_text(f"{EXAMPLE.read_text()}\n---\n{EXAMPLE.read_text()}")
    result = finetune("render", str(both))
    assert result.returncode == ExitCode.USAGE
    assert "holds 2 FineTuneJobs" in result.stderr
