"""The administrator's pod template: under every job's own, never over it."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.plan.desired import manifests
from finetune_operator.plan.desired.admin_template import default_problems
from finetune_operator.plan.types import Manifest, PlanSettings
from tests.support.golden import load

POOL = {"spec": {"nodeSelector": {"pool": "gpu", "zone": "a"}, "priorityClassName": "batch"}}
TAINT = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}


def job(**spec: Any) -> FineTuneJob:
    body = load("job-local.yaml")
    return FineTuneJob.parse({**body, "spec": {**body["spec"], **spec}})


def pod(user_job: FineTuneJob, template: Manifest) -> dict[str, Any]:
    settings = PlanSettings(trainer_image="trainer", pod_template=template)
    made = [manifests.prepare_job(user_job, settings, 1), manifests.train_job(user_job, settings, 1)]
    assert made[0]["spec"]["template"]["spec"].get("nodeSelector") == made[1]["spec"]["template"]["spec"].get(
        "nodeSelector"
    )
    spec: dict[str, Any] = made[1]["spec"]["template"]["spec"]
    return spec


def test_what_a_job_does_not_say_is_the_administrators() -> None:
    template = {"spec": {**POOL["spec"], "tolerations": [TAINT], "imagePullSecrets": [{"name": "registry"}]}}
    made = pod(job(), template)
    assert made["nodeSelector"] == {"pool": "gpu", "zone": "a"}
    assert made["priorityClassName"] == "batch"
    assert TAINT in made["tolerations"]
    assert made["imagePullSecrets"] == [{"name": "registry"}]


def test_what_a_job_says_wins() -> None:
    made = pod(job(template={"spec": {"nodeSelector": {"zone": "b"}, "priorityClassName": None}}), POOL)
    assert made["nodeSelector"] == {"pool": "gpu", "zone": "b"}
    assert "priorityClassName" not in made


def test_fields_of_the_spec_win_too() -> None:
    container = {
        "name": "trainer",
        "env": [{"name": "NCCL_DEBUG", "value": "INFO"}, {"name": "HTTPS_PROXY", "value": "proxy:3128"}],
        "volumeMounts": [{"name": "admins", "mountPath": "/data"}, {"name": "admins", "mountPath": "/cache"}],
    }
    template = {"spec": {"containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]}}
    user_job = job(
        env=[{"name": "NCCL_DEBUG", "value": "TRACE"}],
        volumes=[{"name": "data", "mountPath": "/data", "claimName": "mine"}],
    )
    made = pod(user_job, template)
    (trainer,) = made["containers"]
    variables = {variable["name"]: variable["value"] for variable in trainer["env"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in trainer["volumeMounts"]}
    assert (variables["NCCL_DEBUG"], variables["HTTPS_PROXY"]) == ("TRACE", "proxy:3128")
    assert (mounts["/data"], mounts["/cache"]) == ("data", "admins")
    assert [volume for volume in made["volumes"] if volume["name"] == "data"] == [
        {"name": "data", "persistentVolumeClaim": {"claimName": "mine"}}
    ]


def test_run_config_and_names_do_not_depend_on_it() -> None:
    plain, other = (PlanSettings(trainer_image="trainer", pod_template=template) for template in ({}, POOL))
    assert manifests.config_map(job(), plain) == manifests.config_map(job(), other)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"spec": {"restartPolicy": "Always"}}, "podTemplate.spec.restartPolicy: can't be set"),
        ({"specs": {}}, "podTemplate.specs: a pod template has metadata and spec"),
        ({"spec": {"tolerations": {}}}, "podTemplate.spec.tolerations: must be a list"),
        ({"spec": {"containers": [{"name": "trainer", "command": ["sh"]}]}}, "the program is the system's"),
        ({"spec": {"containers": [{"name": "trainer", "image": "other"}]}}, "set the trainer's image"),
        ({"metadata": {"labels": {"finetune.dev/role": "mine"}}}, "the system sets it"),
    ],
)
def test_what_can_not_be_a_default(template: Manifest, message: str) -> None:
    assert message in " ".join(default_problems(template))
    assert default_problems(POOL) == ()
