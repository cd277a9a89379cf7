"""The rows of the matrix that a laptop can tell of: `finetune validate` says what the cluster says, in the same words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune_operator.cli.command_errors import ExitCode
from finetune_operator.cli.validate import validate_files
from tests.support.bad_input import BadInput, SaidBy, all_rows
from tests.support.spec_cases import manifest

ROWS = [row for row in all_rows() if row.on_laptop]


def test_whatever_the_api_server_refuses_at_once_is_told_on_a_laptop() -> None:
    elsewhere = [row for row in all_rows() if row.said_by is SaidBy.API_SERVER and not row.on_laptop]

    assert [row.name for row in elsewhere if not row.name.startswith("changed-")] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_laptop_says_the_same(row: BadInput, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = manifest({}), manifest(dict(row.spec), dict(row.metadata))
    path = tmp_path / "jobs.yaml"
    path.write_text("".join(f"---\n{json.dumps(document)}\n" for document in (good, bad)))

    assert validate_files([str(path)]) is ExitCode.FAILED

    output = capsys.readouterr()
    where = f"{row.reason}: " if row.said_by is SaidBy.API_SERVER else ""
    assert any(where in line and row.message in line for line in output.err.splitlines()), output.err
    assert output.out == f"{path}: FineTuneJob reviews is valid\n", "the good one beside it"
