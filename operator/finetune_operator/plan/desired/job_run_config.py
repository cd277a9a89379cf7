"""The run config of a job: the whole contract with the training image, and what follows from the spec for it. Pure."""

from __future__ import annotations

from finetune_operator.api.deprecated import translate
from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.rules.dataset import ADDRESSES
from finetune_operator.plan.desired.accelerators import accelerators, device_memory_bytes
from finetune_operator.plan.desired.pod_template import OUTPUT_PATH, TOKEN_FILE
from finetune_operator.plan.types import PlanSettings
from finetune_trainer.contract import task_facts
from finetune_trainer.contract.run_config import (
    PORT,
    DatasetSource,
    EarlyStopping,
    HubSettings,
    ModelSource,
    Peft,
    Preprocessing,
    Publish,
    Quantization,
    RunConfig,
)


def processes_per_node(job: FineTuneJob, settings: PlanSettings) -> int:
    """Return the ranks per node: the user's number, else one per accelerator, else one."""
    return job.spec.processes_per_node or accelerators(job, settings) or 1


def needs_prepare_job(job: FineTuneJob, settings: PlanSettings) -> bool:
    """Return whether preparing gets a Job of its own: accelerators would wait for it, something is fetched, or a secret is used."""
    spec = job.spec
    fetches = not spec.model.name.startswith("/") or spec.dataset.name is not None or bool(addresses(job))
    asks_hub = spec.publish is not None or spec.hub.token_secret_ref is not None
    return fetches or asks_hub or spec.dataset.credentials_secret_ref is not None or accelerators(job, settings) > 0


def addresses(job: FineTuneJob) -> tuple[str, ...]:
    """List the files of the dataset that lie on no volume."""
    files = job.spec.dataset.files
    all_files = (*files.train, *(files.validation or ()), *(files.test or ())) if files else ()
    return tuple(file for file in all_files if file.startswith(ADDRESSES))


def run_config(job: FineTuneJob, settings: PlanSettings) -> RunConfig:
    """Make the whole contract with the training image, as the job's ConfigMap holds it."""
    spec, name = job.spec, job.metadata.name
    dataset = spec.dataset.model_dump(exclude_none=True, exclude={"credentials_secret_ref"})
    return RunConfig(
        namespace=job.metadata.namespace,
        job=name,
        uid=job.metadata.uid,
        task=spec.task,
        problem_type=spec.problem_type,
        model=ModelSource(name=spec.model.name, revision=spec.model.revision),
        dataset=DatasetSource.model_validate({**dataset, "columns": _columns(job)}),
        preprocessing=Preprocessing.model_validate(spec.preprocessing.model_dump()),
        training_arguments=translate(spec.training_arguments)[0],
        peft=Peft.model_validate(spec.peft.model_dump(exclude_none=True)) if spec.peft else None,
        quantization=Quantization(bits=spec.quantization.bits) if spec.quantization else None,
        early_stopping=EarlyStopping.model_validate(spec.early_stopping.model_dump()) if spec.early_stopping else None,
        loss_weights=spec.loss_weights,
        nodes=spec.nodes,
        processes_per_node=processes_per_node(job, settings),
        accelerators=accelerators(job, settings) > 0,
        device_memory_bytes=device_memory_bytes(job, settings),
        output=OUTPUT_PATH,
        checkpoint_interval_seconds=spec.checkpoint_interval_seconds,
        resume_from=spec.resume_from,
        prepare="job" if needs_prepare_job(job, settings) else "inline",
        peers=f"{name}-train-{{attempt}}-{{node}}.{name}:{PORT}" if spec.nodes > 1 else None,
        port=PORT,
        grace_period_seconds=settings.grace_period_seconds,
        hub=HubSettings(endpoint=spec.hub.endpoint, token_file=TOKEN_FILE if spec.hub.token_secret_ref else None),
        publish=Publish.model_validate(spec.publish.model_dump()) if spec.publish else None,
    )


def _columns(job: FineTuneJob) -> dict[str, str]:
    """Return role -> column. Where a task can take its text in several ways, only the columns that the user named."""
    facts, columns = task_facts.TASKS[job.spec.task], job.spec.dataset.columns.model_dump(exclude_none=True)
    defaults = {role: name for role, name in facts.roles.items() if name is not None}
    named = {**defaults, **columns} if len(facts.required) == 1 else columns
    if job.spec.dataset.label_columns:
        named.pop("label", None)
    return {role: named[role] for role in facts.roles if role in named}
