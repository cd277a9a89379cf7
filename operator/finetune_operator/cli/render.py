"""`finetune render`: the child objects of a job's first attempt as YAML. Reads one file, and no network."""

from __future__ import annotations

import sys

from finetune_operator.cli.command_errors import ExitCode
from finetune_operator.cli.document import job_of
from finetune_operator.cli.manifest_files import dump
from finetune_operator.plan.desired import manifests
from finetune_operator.plan.types import PlanSettings

DEFAULT_IMAGE = "docker.io/finetune/trainer:dev"
HEADER = """\
# What the operator makes for the first attempt of FineTuneJob {name}. For reading and for policy checks, not for
# applying: uid, and with it the name of the ConfigMap, are known only once the FineTuneJob is there.
"""


def render(path: str, image: str | None) -> ExitCode:
    job, _ = job_of(path)
    settings = PlanSettings(trainer_image=image or DEFAULT_IMAGE)
    children = [manifests.claim(job), manifests.config_map(job, settings), manifests.service(job)]
    if manifests.needs_prepare_job(job, settings):
        children.append(manifests.prepare_job(job, settings, 1))
    children.append(manifests.train_job(job, settings, 1))
    if job.spec.publish is not None:
        children.append(manifests.publish_job(job, settings, 1))
    sys.stdout.write(HEADER.format(name=job.metadata.name))
    sys.stdout.write(dump(child for child in children if child is not None))
    return ExitCode.SUCCEEDED
