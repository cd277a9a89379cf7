"""`finetune validate FILE...`: compares every FineTuneJob in the files with the schema and the rules of its CRD.

With `--deep`, model and data of valid jobs are read too: see `validate_deep`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from finetune_operator.api import validation
from finetune_operator.api.resource import GROUP, KIND, FineTuneJob
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.api.validation import Problem, normalised
from finetune_operator.cli import manifest_files
from finetune_operator.cli.command_errors import CommandError, ExitCode
from finetune_operator.plan.desired.manifests import accelerator_problems, template_off_limits, template_problems
from finetune_operator.plan.types import PlanSettings

if TYPE_CHECKING:
    from finetune_operator.cli.local.volumes import Volumes

NO_UID = "00000000-0000-0000-0000-000000000000"
LONG_AGO = "1970-01-01T00:00:00Z"


def validate_files(paths: Sequence[str], volumes: Volumes | None = None) -> ExitCode:
    """Validate files: write problems to standard error, a line each, and the names of good jobs to standard output.

    `volumes` says where claims and Secrets lie; None where model and data are not to be read.
    """
    code = ExitCode.SUCCEEDED
    for path in paths:
        try:
            file_code = _check(path, volumes)
        except CommandError as error:  # the other files are read nevertheless
            print(f"finetune: {error}", file=sys.stderr)
            file_code = error.code
        code = max(code, file_code)
    return code


def _check(path: str, volumes: Volumes | None) -> ExitCode:
    """Validate one file. Raise CommandError where it can't be read, or holds no FineTuneJob."""
    code = ExitCode.SUCCEEDED
    jobs = [document for document in manifest_files.read(path) if is_fine_tune_job(document)]
    if not jobs:
        raise CommandError(f"{path}: holds no {KIND}", ExitCode.FAILED)
    for job in jobs:
        job_problems = problems(job)
        for problem in job_problems:
            print(f"{path}: {_name(job)}{problem}" if len(jobs) > 1 else f"{path}: {problem}", file=sys.stderr)
        if job_problems:
            code = ExitCode.FAILED
            continue
        for warning in (*warnings(job), *_asks_too_much(job)):
            print(f"{path}: Warning: {warning}", file=sys.stderr)
        print(f"{path}: {KIND} {job['metadata'].get('name', 'without a name')} is valid")
        if volumes is not None:
            from finetune_operator.cli import validate_deep

            code = max(code, validate_deep.look(path, FineTuneJob.parse(completed(job)), volumes))
    return code


def _name(job: dict[str, Any]) -> str:
    """Return the beginning of a line that says which of several jobs it is about."""
    metadata = job.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return f"{KIND} {name}: " if isinstance(name, str) else ""


def is_fine_tune_job(document: dict[str, Any]) -> bool:
    """Return whether a manifest is meant to be a FineTuneJob: a file may also hold its Secret and claims."""
    version, kind = document.get("apiVersion"), document.get("kind")
    ours = isinstance(version, str) and version.partition("/")[0] == GROUP
    return ours or (isinstance(kind, str) and kind.lower() == KIND.lower())


def validate(document: dict[str, Any]) -> tuple[Problem, ...]:
    """Return everything that the API server would refuse; empty for a good FineTuneJob."""
    return validation.check(document)


def warnings(document: dict[str, Any]) -> tuple[str, ...]:
    """Return warnings about deprecated training arguments, for a manifest without problems."""
    from finetune_operator.api.deprecated import translate

    return translate(FineTuneJobSpec.model_validate(normalised(document)["spec"]).training_arguments)[1]


def problems(document: dict[str, Any]) -> tuple[str, ...]:
    """Return why the API server would refuse the manifest, or else why the operator would."""
    api_problems = tuple(str(problem) for problem in validate(document))
    return api_problems or template_problems(FineTuneJob.parse(completed(document)))


def _asks_too_much(document: dict[str, Any]) -> tuple[str, ...]:
    """Return why an operator with the default settings would refuse the job; the settings of a cluster are not known here."""
    job, settings = FineTuneJob.parse(completed(document)), PlanSettings(trainer_image="")
    reasons = (*template_off_limits(job, settings), *accelerator_problems(job, settings))
    return tuple(f"an operator with the default settings refuses it: {reason}" for reason in reasons)


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """Return a valid manifest with what the API server would add."""
    normal = normalised(document)
    metadata = {"namespace": "default", "uid": NO_UID, "creationTimestamp": LONG_AGO, **normal["metadata"]}
    return {**normal, "metadata": metadata}
