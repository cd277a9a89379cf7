"""`finetune validate` from file to exit code: several jobs, several files, standard input."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from finetune_operator.cli.command_errors import ExitCode
from finetune_operator.cli.validate import validate_files
from tests.support.spec_cases import manifest

SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hf"}}


def file_of(path: Path, *documents: Any) -> str:
    path.write_text("".join(f"---\n{json.dumps(document)}\n" for document in documents))
    return str(path)


def test_a_good_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file_of(tmp_path / "good.yaml", SECRET, manifest({}))

    assert validate_files([path]) is ExitCode.SUCCEEDED
    assert capsys.readouterr() == (f"{path}: FineTuneJob reviews is valid\n", "")


def test_a_device_that_nobody_knows_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file_of(tmp_path / "job.yaml", manifest({"resources.limits": {"acme.com/gpu-a100": 1}}))

    assert validate_files([path]) is ExitCode.SUCCEEDED
    assert "spec.resources.limits[acme.com/gpu-a100]: looks like an accelerator" in capsys.readouterr().err


def test_of_several_jobs_each_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file_of(tmp_path / "jobs.yaml", manifest({"nodes": 0}, {"name": "one"}), manifest({}, {"name": "two"}))

    assert validate_files([path]) is ExitCode.FAILED
    output = capsys.readouterr()
    assert output.err.startswith(f"{path}: FineTuneJob one: spec.nodes: Invalid value: 0: ")
    assert output.out == f"{path}: FineTuneJob two is valid\n"


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("kind: FineTuneJob\n"))

    assert validate_files(["-"]) is ExitCode.FAILED
    assert "-: apiVersion: Required value: apiVersion: finetune.dev/v1alpha1" in capsys.readouterr().err


def test_one_bad_file_does_not_hide_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("spec: [")
    empty = file_of(tmp_path / "empty.yaml", SECRET)
    good = file_of(tmp_path / "good.yaml", manifest({}))

    assert validate_files([str(broken), empty, good]) is ExitCode.FAILED
    output = capsys.readouterr()
    assert f"{broken}:1:8: " in output.err
    assert f"{empty}: holds no FineTuneJob" in output.err
    assert output.out == f"{good}: FineTuneJob reviews is valid\n"


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate_files([str(tmp_path / "nothing.yaml")]) is ExitCode.USAGE
    assert "No such file or directory" in capsys.readouterr().err


def test_a_kind_that_is_nearly_right_is_not_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = file_of(tmp_path / "job.yaml", manifest({}), {**manifest({}), "kind": "FinetuneJob"})

    assert validate_files([path]) is ExitCode.FAILED
    assert 'did you mean "FineTuneJob"?' in capsys.readouterr().err


def test_the_operators_objections_come_after_the_servers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    template = {"spec": {"containers": [{"name": "trainer", "command": ["sleep"]}]}}
    path = file_of(tmp_path / "job.yaml", manifest({"template": template}))

    assert validate_files([path]) is ExitCode.FAILED
    assert "spec.template.spec.containers[trainer].command: can't be set" in capsys.readouterr().err


def test_what_an_administrator_may_have_forbidden_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = {"spec": {"volumes": [{"name": "m", "hostPath": {"path": "/models"}}], "serviceAccountName": "trainer"}}
    path = file_of(tmp_path / "job.yaml", manifest({"template": template}))

    assert validate_files([path]) is ExitCode.SUCCEEDED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"{path}: Warning: an operator with the default settings refuses it: spec.template.spec.volumes[m]"
    )
