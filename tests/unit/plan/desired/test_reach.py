"""Every field of a spec reaches something: the run config, a pod, a claim, or a decision of the operator."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from finetune_operator import plan
from finetune_operator.api import crd
from finetune_operator.api.mutability import Decides, Mutable, mutability
from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.api.structural import Schema
from finetune_operator.plan.desired import manifests
from finetune_operator.plan.types import Manifest, PlanSettings
from finetune_trainer.contract.effects import effects
from finetune_trainer.contract.run_config import RunConfig
from tests.support.schema_cases import good_patch, other_value, usual_value
from tests.support.spec_cases import manifest

SETTINGS = PlanSettings(trainer_image="trainer:1")
DEADLINE = datetime(2026, 1, 3, tzinfo=UTC)
VALUES: dict[str, tuple[Any, Any]] = {
    # Field -> two values, where the schema does not tell them.
    **{
        f"{kind}.{bound}": ({"memory": "4Gi"}, {"memory": "8Gi"})
        for kind in ("resources", "helperResources")
        for bound in ("limits", "requests")
    },
    "trainingArguments.lr_scheduler_kwargs.lr_end": (0.0, 1e-8),
    "template": ({"spec": {"nodeSelector": {"zone": "a"}}}, {"spec": {"nodeSelector": {"zone": "b"}}}),
}
ONE_VALUE = {"peft.method", "quantization.bits"}
"""Fields that have one value today, which is also the default."""


def leaves(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Return every field that holds no other fields, by its path."""
    if path not in VALUES and "properties" in schema:
        for name, child in schema["properties"].items():
            yield from leaves(child, f"{path}.{name}".removeprefix("."))
    elif "items" in schema:
        yield from leaves(schema["items"], f"{path}[]")
    else:
        yield path, schema


FIELDS = dict(leaves(crd.schema()["properties"]["spec"]))
DECIDING = {
    str(field.alias): name
    for name, field in FineTuneJobSpec.model_fields.items()
    if any(isinstance(annotation, Decides) for annotation in field.metadata)
}
"""Fields that only the operator reads, as users and as models name them."""


def two_jobs(path: str) -> tuple[FineTuneJob, FineTuneJob]:
    """Make two jobs that differ in a field and have all that it needs. Where it has one value, the other job goes without."""
    value, other_one = VALUES.get(path) or (usual_value(FIELDS[path], path), other_value(FIELDS[path], path))
    around = good_patch(path, value)
    first = parsed(manifest(around))
    other = parsed(manifest({**around, path: None} if other_one == value else good_patch(path, other_one)))
    assert first != other or path in ONE_VALUE
    return first, other


def parsed(body: dict[str, Any]) -> FineTuneJob:
    body["metadata"] |= {"namespace": "n", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return FineTuneJob.parse(body)


def desired(job: FineTuneJob) -> list[Manifest | None]:
    """Return everything that a job becomes."""
    return [
        manifests.config_map(job, SETTINGS),
        manifests.service(job),
        manifests.claim(job),
        manifests.prepare_job(job, SETTINGS, 1),
        manifests.train_job(job, SETTINGS, 1),
        manifests.publish_job(job, SETTINGS, 1, DEADLINE) if job.spec.publish else None,
    ]


@pytest.mark.parametrize("path", FIELDS)
def test_another_value_of_a_field_changes_what_a_job_becomes(path: str) -> None:
    """Fields that only the operator reads change its decisions in place of what the job becomes."""
    first, other = two_jobs(path)

    assert (desired(first) != desired(other)) == (path not in DECIDING and path not in ONE_VALUE)


@pytest.mark.parametrize("name", DECIDING.values())
def test_deciding_field_is_read_in_a_stage(name: str) -> None:
    """A field that changes no object is read where the operator decides."""
    stages = Path(plan.__path__[0]) / "stages"
    nodes = (node for file in stages.glob("*.py") for node in ast.walk(ast.parse(file.read_text())))

    assert any(isinstance(node, ast.Attribute) and node.attr == name for node in nodes)


@pytest.mark.parametrize("path", FIELDS)
def test_what_data_or_training_depend_on_is_fixed_while_a_job_trains(path: str) -> None:
    first, other = (flat(manifests.run_config(job, SETTINGS)) for job in two_jobs(path))
    reached = [effect for name, effect in effects(RunConfig).items() if first.get(name) != other.get(name)]

    if any(reached):
        assert not isinstance(mutability(FineTuneJobSpec)[path.partition(".")[0].removesuffix("[]")], Mutable)


def flat(config: RunConfig) -> dict[str, Any]:
    """Return the fields of a run config by dotted path, as `effects` names them."""
    dumped = config.model_dump()
    return {path: _at(dumped, path) for path in effects(RunConfig)}


def _at(fields: Any, path: str) -> Any:
    for name in path.split("."):
        fields = fields.get(name) if isinstance(fields, dict) else None
    return fields
