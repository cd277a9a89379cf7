"""The run config of a job: the whole contract with the training image, and what follows from the spec for it. Pure."""

from __future__ import annotations

from typing import Literal

from finetune_operator.api.dataset_spec import Dataset
from finetune_operator.api.deprecated import translate
from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.rules.dataset import ADDRESSES
from finetune_operator.api.script_spec import ScriptSpec
from finetune_operator.plan.desired.accelerators import accelerators, device_memory_bytes
from finetune_operator.plan.desired.pod_template import OUTPUT_PATH, SCRIPT_PATH, TOKEN_FILE
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
from finetune_trainer.contract.script import Launcher, Script
from finetune_trainer.contract.task_facts import TaskName


def processes_per_node(job: FineTuneJob, settings: PlanSettings) -> int:
    """Return the ranks per node: the user's number, else one per accelerator, else one. The launcher python starts one."""
    if job.spec.script is not None and job.spec.script.launcher == Launcher.PYTHON.value:
        return 1
    return job.spec.processes_per_node or accelerators(job, settings) or 1


def needs_prepare_job(job: FineTuneJob, settings: PlanSettings) -> bool:
    """Return whether preparing gets a Job of its own: accelerators would wait for it, something is fetched, or a secret is used."""
    spec = job.spec
    asks_hub = spec.publish is not None or spec.hub.token_secret_ref is not None
    return _fetches(job) or asks_hub or (spec.script is None and accelerators(job, settings) > 0)


def _fetches(job: FineTuneJob) -> bool:
    """Return whether something that lies on no volume is read before training."""
    spec, dataset = job.spec, job.spec.dataset
    model = spec.model is not None and not spec.model.name.startswith("/")
    data = dataset is not None and (dataset.name is not None or dataset.credentials_secret_ref is not None)
    return model or data or bool(addresses(job)) or (spec.script is not None and bool(spec.script.requirements))


def _prepared_by(job: FineTuneJob, settings: PlanSettings) -> Literal["job", "inline", "none"]:
    if needs_prepare_job(job, settings):
        return "job"
    needs_nothing = job.spec.script is not None and job.spec.model is None and job.spec.dataset is None
    return "none" if needs_nothing else "inline"


def addresses(job: FineTuneJob) -> tuple[str, ...]:
    """List the files of the dataset that lie on no volume."""
    files = job.spec.dataset.files if job.spec.dataset is not None else None
    all_files = (*files.train, *(files.validation or ()), *(files.test or ())) if files else ()
    return tuple(file for file in all_files if file.startswith(ADDRESSES))


def run_config(job: FineTuneJob, settings: PlanSettings) -> RunConfig:
    """Make the whole contract with the training image, as the job's ConfigMap holds it."""
    spec, name = job.spec, job.metadata.name
    return RunConfig(
        namespace=job.metadata.namespace,
        job=name,
        uid=job.metadata.uid,
        task=spec.task,
        problem_type=spec.problem_type,
        model=ModelSource(name=spec.model.name, revision=spec.model.revision) if spec.model else None,
        dataset=_dataset(job),
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
        prepare=_prepared_by(job, settings),
        peers=f"{name}-train-{{attempt}}-{{node}}.{name}:{PORT}" if spec.nodes > 1 else None,
        port=PORT,
        grace_period_seconds=settings.of_job(job).grace_period_seconds,
        hub=HubSettings(endpoint=spec.hub.endpoint, token_file=TOKEN_FILE if spec.hub.token_secret_ref else None),
        publish=Publish.model_validate(spec.publish.model_dump()) if spec.publish else None,
        script=_script(spec.script) if spec.script else None,
    )


def _script(spec: ScriptSpec) -> Script:
    """Return the user's program as the pods see it."""
    return Script(
        launcher=Launcher(spec.launcher),
        path=f"{SCRIPT_PATH}/{spec.config_map.key}" if spec.config_map else spec.path,
        module=spec.module,
        arguments=spec.args,
        requirements=spec.requirements,
        checkpoint_argument=spec.checkpoint_argument,
        model_output=spec.outputs.model if spec.outputs else None,
        progress_pattern=spec.progress_pattern,
        accelerate_config=spec.accelerate_config,
        preflight=spec.preflight,
    )


def _dataset(job: FineTuneJob) -> DatasetSource | None:
    """Return the data of the job, each role of its task with the column that it has."""
    if job.spec.dataset is None:
        return None
    fields = job.spec.dataset.model_dump(exclude_none=True, exclude={"credentials_secret_ref"})
    columns = _columns(job.spec.task, job.spec.dataset) if job.spec.task else {}
    return DatasetSource.model_validate({**fields, "columns": columns})


def _columns(task: TaskName, dataset: Dataset) -> dict[str, str]:
    """Return role -> column. Where a task can take its text in several ways, only what the user named."""
    facts, columns = task_facts.TASKS[task], dataset.columns.model_dump(exclude_none=True)
    usual = {role: name for role, name in facts.roles.items() if name is not None}
    named = {**usual, **columns} if len(facts.required) == 1 else columns
    if dataset.label_columns:
        named.pop("label", None)
    return {role: named[role] for role in facts.roles if role in named}
