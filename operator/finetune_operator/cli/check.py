"""`finetune validate FILE...`: every FineTuneJob in the files, held against the schema and the rules of its CRD."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from finetune_operator.api.resource import KIND, FineTuneJob
from finetune_operator.cli import manifest
from finetune_operator.cli.errors import CommandError, ExitCode
from finetune_operator.cli.validate import is_fine_tune_job, normalised, validate, warnings
from finetune_operator.plan.children import template_problems

NO_UID = "00000000-0000-0000-0000-000000000000"
LONG_AGO = "1970-01-01T00:00:00Z"


def check(paths: Sequence[str]) -> ExitCode:
    """Problems go to standard error, a line each; a good job is named on standard output."""
    code = ExitCode.SUCCEEDED
    for path in paths:
        jobs = [document for document in manifest.read(path) if is_fine_tune_job(document)]
        if not jobs:
            raise CommandError(f"{path}: holds no {KIND}", ExitCode.FAILED)
        for job in jobs:
            name = (job.get("metadata") or {}).get("name", "without a name")
            wrong = problems(job)
            for problem in wrong:
                print(f"{path}: {problem}", file=sys.stderr)
            if wrong:
                code = ExitCode.FAILED
                continue
            for warning in warnings(job):
                print(f"{path}: Warning: {warning}", file=sys.stderr)
            print(f"{path}: {KIND} {name} is valid")
    return code


def problems(document: dict[str, Any]) -> tuple[str, ...]:
    """What the API server would refuse, else what the operator would."""
    wrong = tuple(str(problem) for problem in validate(document))
    return wrong or template_problems(FineTuneJob.parse(completed(document)))


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """A valid manifest with what the API server would add."""
    given = normalised(document)
    metadata = {"namespace": "default", "uid": NO_UID, "creationTimestamp": LONG_AGO, **given["metadata"]}
    return {**given, "metadata": metadata}
