"""Run configs as the operator plans them."""

from __future__ import annotations

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.plan.desired.job_run_config import run_config
from finetune_operator.plan.types import PlanSettings
from finetune_trainer.contract.run_config import TaskConfig


def task_config(job: FineTuneJob, settings: PlanSettings) -> TaskConfig:
    """Return the run config of a job with a task."""
    return TaskConfig.model_validate_json(run_config(job, settings).to_json())
