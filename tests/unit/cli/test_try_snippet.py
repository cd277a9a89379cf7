"""The line of code that tries a model: Python that a shell passes on as it is."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from finetune_operator.cli.local.volumes import Volumes, behind
from finetune_operator.cli.try_snippet import code
from finetune_trainer.contract.task_facts import TASKS
from tests.support.spec_case import job

WITHOUT_PIPELINE = ("question-answering", "summarization", "translation")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("base", [None, "data/model"])
def test_a_line_of_code_tries_the_model(task: str, base: str | None) -> None:
    """The model itself answers questions, translates and sums up: transformers 5 has no pipeline that does."""
    trained_job = job(task=task, peft={}, preprocessing={"sourcePrefix": "sum up: "})
    line = code(trained_job, "out/model", 5, base)
    assert TASKS[task].model_class in line or (base is None and task not in WITHOUT_PIPELINE)
    ast.parse(line)
    assert '"' not in line, "it stands in a shell's double quotes"
    assert "out/model" in line
    assert (f"pipeline('{task}'" in line) == (task not in WITHOUT_PIPELINE)
    assert ("PeftModel.from_pretrained(" in line) == (base is not None)
    assert ("num_labels=5" in line) == (task in ("text-classification", "token-classification"))
    assert ("sum up: your text" in line) == (task in ("summarization", "translation"))


@pytest.mark.parametrize("fields", [{}, {"peft": {"saveMerged": True}}])
def test_a_whole_model_needs_to_be_told_nothing(fields: dict[str, Any]) -> None:
    line = code(job(**fields), "out/model", 5, "data/model")
    assert (
        line
        == "from transformers import pipeline; p = pipeline('text-classification', 'out/model'); print(p('your text'))"
    )


def test_what_means_something_to_a_shell_is_left_out() -> None:
    assert "$" not in code(job(**{"task": "translation", "preprocessing.sourcePrefix": "$(rm) ' "}), "out/model")


def test_the_folder_behind_a_path_of_the_spec(tmp_path: Any) -> None:
    mounts = [
        {"name": "a", "mountPath": "/data", "claimName": "reviews", "subPath": "v2"},
        {"name": "b", "mountPath": "/keys", "secret": "s"},
    ]
    mounting_job = job(volumes=mounts)
    assert (
        behind(mounting_job, "/data/model", Volumes(tmp_path, claims={"reviews": tmp_path}))
        == tmp_path / "v2" / "model"
    )
    assert behind(mounting_job, "/keys/model", Volumes(tmp_path)) is None
    assert behind(mounting_job, "google-bert/bert-base-cased", Volumes(tmp_path)) is None
