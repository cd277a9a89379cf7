"""`finetune validate --deep`: reads model and data as the prepare step would, and prints what that would say.

The plan is that of the operator and the program that of the training image; what it writes goes to a temporary folder.
Nothing is trained, and nothing on a volume or on the Hub is changed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.spec import Storage
from finetune_operator.cli.command_errors import CommandError, ExitCode
from finetune_operator.cli.local.packages import require_trainer
from finetune_operator.cli.local.pod_environment import container_environment, inherited_environment
from finetune_operator.cli.local.volumes import Volumes, missing, pod_paths, token_file
from finetune_operator.cli.terminal import one_line
from finetune_operator.plan.desired.manifests import prepare_job, run_config
from finetune_operator.plan.desired.pod_template import CONFIG_KEY, CONFIG_PATH, OUTPUT_PATH
from finetune_operator.plan.types import PlanSettings
from finetune_trainer.contract.prepared import Prepared, SplitReport
from finetune_trainer.contract.records import ResultRecord
from finetune_trainer.contract.run_config import Env

SETTINGS = PlanSettings(trainer_image="this-machine")
UNNAMED = "without-a-name"
LABELS_SHOWN = 12
NAME_MAX = 100
"""Characters of a label that are shown."""
LAST_LINES = 20


def look(path: str, job: FineTuneJob, volumes: Volumes) -> ExitCode:
    """Prepare in a temporary folder; write what the data holds to standard output, and what is wrong to standard error."""
    require_trainer("reading model and data (--deep)")
    scratch_job = _with_scratch_claim(job)
    problems = list(missing(scratch_job, volumes))
    if problems:
        raise CommandError("\n".join(f"{path}: {problem}" for problem in problems))
    name = f"{path}: FineTuneJob {job.metadata.name}"
    with tempfile.TemporaryDirectory(prefix="finetune-validate-") as folder:
        record, prepared, log = _prepare(scratch_job, volumes, Path(folder))
    if record is None or (record.failure is None and prepared is None):
        last_lines = "\n".join(log.strip().splitlines()[-LAST_LINES:])
        print(f"{name}: preparing ended without a word; its last lines:\n{last_lines}", file=sys.stderr)
        return ExitCode.FAILED
    for message in record.messages:
        print(f"{name}: Note: {message}", file=sys.stderr)
    if record.failure is not None:
        print(f"{name}: {record.failure.reason}: {record.failure.message}", file=sys.stderr)
        return ExitCode.FAILED
    print(f"{name}: model and data can be trained on")
    for line in summary(prepared) if prepared else ():
        print(f"  {line}")
    return ExitCode.SUCCEEDED


def _with_scratch_claim(job: FineTuneJob) -> FineTuneJob:
    """Return the job with a claim that is created for it, and with a name, because paths contain it."""
    metadata = job.metadata if job.metadata.name else job.metadata.model_copy(update={"name": UNNAMED})
    return job.model_copy(
        update={"metadata": metadata, "spec": job.spec.model_copy(update={"storage": Storage(size="1Gi")})}
    )


def _prepare(job: FineTuneJob, volumes: Volumes, folder: Path) -> tuple[ResultRecord | None, Prepared | None, str]:
    """Run the prepare step; return its result record, what it prepared for the ranks, and its log."""
    config, output, termination = folder / CONFIG_KEY, folder / "output", folder / "termination-log"
    config.write_text(run_config(job, SETTINGS).to_json())
    output.mkdir()
    pod = prepare_job(job, SETTINGS, 1)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    with token_file(job, volumes, folder) as token:
        paths = pod_paths(job, pod, volumes, token) | {OUTPUT_PATH: str(output), CONFIG_PATH: str(folder)}
        local = {
            Env.CONFIG: str(config),
            Env.PATHS: json.dumps(paths),
            Env.TERMINATION_LOG: str(termination),
            "CUDA_VISIBLE_DEVICES": "",
            **({Env.OTHER_IMAGE.value: job.spec.image} if job.spec.image else {}),
        }
        process = subprocess.run(
            [sys.executable, *container["command"][1:], *container["args"]],
            env={**inherited_environment(1, reads_data=True), **container_environment(container, volumes), **local},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    prepared_file = next(output.glob("*/runs/*/prepared.json"), None)
    return (
        ResultRecord.model_validate_json(termination.read_text()) if termination.is_file() else None,
        Prepared.model_validate_json(prepared_file.read_text()) if prepared_file is not None else None,
        process.stdout,
    )


def summary(prepared: Prepared) -> Iterator[str]:
    """Yield lines about the splits, their labels and one example."""
    for role, report in prepared.splits.items():
        yield f"{role:<10} {', '.join(_counts(report))}"
    for role, report in prepared.splits.items():
        if report.labels:
            shown = [f"{one_line(name, NAME_MAX)} {count}" for name, count in report.labels.items()]
            more = f", and {len(shown) - LABELS_SHOWN} more" if len(shown) > LABELS_SHOWN else ""
            yield f"labels     {role}: {', '.join(shown[:LABELS_SHOWN])}{more}"
    train = prepared.splits.get("train")
    if train is not None and train.example is not None:
        yield f"example    {one_line(' '.join(train.example.split()))}"


def _counts(report: SplitReport) -> Iterator[str]:
    yield f"{report.rows} rows"
    if report.sequences is not None:
        yield f"{report.sequences} sequences"
    for reason, rows in report.dropped.items():
        yield f"{rows} left out ({reason})"
    if report.truncated:
        yield f"{report.truncated} truncated"
    if report.truncated_targets:
        yield f"{report.truncated_targets} with a truncated target"
    if report.lengths:
        median, longest = report.lengths.get("p50"), report.lengths.get("max")
        yield f"{median} tokens (median), {longest} at most"
