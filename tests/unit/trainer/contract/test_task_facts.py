"""A task is declared in two places: its row of `task_facts`, and the module of its name."""

from __future__ import annotations

from typing import get_args

import pytest

from finetune_trainer import tasks
from finetune_trainer.contract.run_config import Preprocessing
from finetune_trainer.contract.task_facts import TASKS, TaskName


def test_every_task_that_a_job_may_name_has_a_row() -> None:
    assert get_args(TaskName) == tuple(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_every_row_has_a_module(name: str) -> None:
    task = tasks.find(name)

    assert task.name == name
    assert task.facts is TASKS[name]


@pytest.mark.parametrize("name", TASKS)
def test_a_row_names_roles_and_fields_that_there_are(name: str) -> None:
    facts = TASKS[name]

    assert {role for roles in facts.required for role in roles} <= facts.roles.keys()
    assert set(facts.preprocessing) <= Preprocessing.model_fields.keys()
    assert set(facts.class_means) <= facts.metrics.keys()
