"""The one FineTuneJob of a manifest file: valid, and with what an API server would add."""

from __future__ import annotations

from typing import Any

from finetune_operator.api.resource import KIND, FineTuneJob
from finetune_operator.cli import manifest_files
from finetune_operator.cli.command_errors import CommandError, ExitCode
from finetune_operator.cli.validate import completed, is_fine_tune_job, problems


def job_of(path: str) -> tuple[FineTuneJob, dict[str, Any]]:
    """Return the one FineTuneJob of a file, and its body with metadata filled in. Raise CommandError where there is not one."""
    jobs = [document for document in manifest_files.read(path) if is_fine_tune_job(document)]
    if len(jobs) != 1:
        raise CommandError(f"{path}: holds {len(jobs)} {KIND}s; exactly one is taken at a time")
    job_problems = problems(jobs[0])
    if job_problems:
        raise CommandError("\n".join(f"{path}: {problem}" for problem in job_problems), ExitCode.FAILED)
    body = completed(jobs[0])
    if "name" not in body["metadata"]:
        raise CommandError(f"{path}: metadata.name is needed here: it is what a second run finds the first one by")
    return FineTuneJob.parse(body), body
