"""The user's partial pod template: how it merges, and what it may not say."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.rules.fields import RESERVED_MOUNT_PATHS
from finetune_operator.plan.desired.merge import merge_template
from finetune_operator.plan.desired.template_checks import template_problems
from tests.support.golden import load


def job(**spec: Any) -> FineTuneJob:
    body = load("job-local.yaml")
    return FineTuneJob.parse({**body, "spec": {**body["spec"], **spec}})


def problems(pod: dict[str, Any], **metadata: Any) -> tuple[str, ...]:
    return template_problems(job(template={"metadata": metadata, "spec": pod}))


def test_merge_is_by_key_and_leaves_its_inputs_alone() -> None:
    system = {
        "metadata": {"labels": {"a": "1"}},
        "spec": {
            "priority": 1,
            "securityContext": {"runAsUser": 1},
            "containers": [{"name": "trainer", "env": [{"name": "A", "value": "1"}], "args": ["launch"]}],
        },
    }
    users = {
        "metadata": {"labels": {"b": "2"}},
        "spec": {
            "priority": 2,
            "securityContext": {"runAsUser": None, "fsGroup": 7},
            "nodeSelector": {"pool": "gpu"},
            "containers": [
                {"name": "trainer", "env": [{"name": "A", "valueFrom": {"fieldRef": {}}}, {"name": "B", "value": "2"}]}
            ],
        },
    }
    merged = merge_template(system, users)
    assert merged == {
        "metadata": {"labels": {"a": "1", "b": "2"}},
        "spec": {
            "priority": 2,
            "securityContext": {"fsGroup": 7},
            "nodeSelector": {"pool": "gpu"},
            "containers": [
                {
                    "name": "trainer",
                    "env": [{"name": "A", "valueFrom": {"fieldRef": {}}}, {"name": "B", "value": "2"}],
                    "args": ["launch"],
                }
            ],
        },
    }
    assert system["metadata"] == {"labels": {"a": "1"}}
    assert users["metadata"] == {"labels": {"b": "2"}}


def test_tolerations_are_added_and_replace_those_for_the_same_taint() -> None:
    ours = [{"key": "lost", "effect": "NoExecute", "tolerationSeconds": 5}, {"key": "gpu", "effect": "NoSchedule"}]
    theirs = [{"key": "lost", "effect": "NoExecute", "tolerationSeconds": 60}, {"key": "mine"}]
    merged = merge_template({"spec": {"tolerations": ours}}, {"spec": {"tolerations": theirs}})
    assert merged["spec"]["tolerations"] == [ours[1], *theirs]


def test_nothing_is_wrong_with_what_the_examples_say() -> None:
    assert template_problems(FineTuneJob.parse(load("job-hub.yaml"))) == ()
    assert template_problems(FineTuneJob.parse(load("job-local.yaml"))) == ()


@pytest.mark.parametrize(
    ("pod", "message"),
    [
        ({"restartPolicy": "Always"}, "spec.template.spec.restartPolicy: can't be set"),
        ({"subdomain": "x"}, "spec.template.spec.subdomain: can't be set"),
        ({"activeDeadlineSeconds": 5}, "set spec.activeDeadlineSeconds"),
        ({"automountServiceAccountToken": True}, "training pods hold no API credentials"),
        ({"containers": [{"name": "trainer", "command": ["sh"]}]}, "containers[trainer].command: can't be set"),
        ({"containers": [{"name": "trainer", "args": []}]}, "containers[trainer].args: can't be set"),
        ({"containers": [{"name": "trainer", "resources": {}}]}, "set spec.resources"),
        ({"containers": [{"name": "trainer", "resources": None}]}, "set spec.resources"),
        (
            {"containers": [{"name": "trainer", "resources": {"claims": [{"name": "gpu"}], "limits": {"cpu": 1}}}]},
            "set spec.resources",
        ),
        (
            {"containers": [{"name": "trainer", "resources": {"claims": [{"request": "gpu"}]}}]},
            "containers[trainer].resources.claims[0]: needs name",
        ),
        ({"containers": [{"name": "trainer", "resources": {"claims": None}}]}, "resources.claims: must be a list"),
        (
            {"resourceClaims": [{"name": "gpu", "resourceClaimName": "one"}]},
            "resourceClaims[gpu]: no container has it: name it where the training container is",
        ),
        ({"containers": [{"name": "trainer", "ports": [{"containerPort": 8080}]}]}, "port 8080"),
        ({"containers": [{"name": "trainer", "ports": [{"containerPort": 1, "name": "metrics"}]}]}, "name metrics"),
        (
            {"containers": [{"name": "trainer", "volumeMounts": [{"name": "x", "mountPath": "/output"}]}]},
            "volumeMounts[/output]",
        ),
        (
            {"containers": [{"name": "trainer", "volumeMounts": [{"name": "x", "mountPath": "/dev"}]}]},
            "volumeMounts[/dev]",
        ),
        (
            {"containers": [{"name": "trainer", "env": [{"name": "FINETUNE_PATHS", "value": "{}"}]}]},
            "env[FINETUNE_PATHS]",
        ),
        (
            {"containers": [{"name": "side", "image": "x"}]},
            "make it a sidecar: an entry of initContainers with restartPolicy: Always",
        ),
        ({"initContainers": [{"name": "trainer"}]}, "belongs under containers"),
        ({"volumes": [{"name": "finetune-output", "emptyDir": {}}]}, "volumes[finetune-output]"),
        (
            {"containers": [{"name": "trainer", "env": [{"name": "WORLD_SIZE", "value": "4"}]}]},
            "env[WORLD_SIZE]: is set by the system: leave it out",
        ),
        (
            {"containers": [{"name": "trainer", "env": [{"name": "HF_TOKEN", "value": "x"}]}]},
            "env[HF_TOKEN]: would hand the token to every pod: name its Secret in hub.tokenSecretRef",
        ),
        (
            {"containers": [{"name": "trainer", "volumeMounts": [{"name": "x", "mountPath": "/proc/x"}]}]},
            "volumeMounts[/proc/x]: is a path that the system mounts",
        ),
        (
            {"containers": [{"name": "trainer", "volumeMounts": [{"name": "x", "mountPath": 5}]}]},
            "volumeMounts[0].mountPath: must be a text",
        ),
        ({"containers": [{"name": "trainer"}, {"name": "trainer"}]}, "containers[1]: name 'trainer' is given twice"),
        (
            {"initContainers": [{"name": "a", "image": "x"}, {"name": "a", "image": "y"}]},
            "initContainers[1]: name 'a' is given twice",
        ),
        (
            {"initContainers": [{"name": "a", "image": "x", "ports": [{"containerPort": 8080}]}]},
            "initContainers[a].ports[8080]: port 8080 and the name metrics are the system's",
        ),
        ({"containers": None}, "spec.template.spec.containers: must be a list"),
        ({"containers": [{"image": "x"}]}, "containers[0]: needs name"),
        ({"volumes": [{"$patch": "replace"}]}, "$patch is not supported"),
        ({"tolerations": {"key": "x"}}, "spec.template.spec.tolerations: must be a list"),
    ],
)
def test_what_is_the_systems_is_refused_by_name(pod: dict[str, Any], message: str) -> None:
    (problem,) = problems(pod)
    assert message in problem


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"labels": {"finetune.dev/job": "other"}}, "metadata.labels[finetune.dev/job]: the system sets it"),
        ({"labels": {"size": 3}}, "must be an object of texts"),
        ({"name": "x"}, "metadata.name: only labels and annotations"),
    ],
)
def test_metadata_of_pods(metadata: dict[str, Any], message: str) -> None:
    (problem,) = problems({}, **metadata)
    assert message in problem


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"template": {"kind": "Pod"}}, "spec.template.kind"),
        ({"template": {"spec": []}}, "metadata and spec must be objects"),
        (
            {"env": [{"name": "JOB_COMPLETION_INDEX", "value": "1"}]},
            "spec.env[JOB_COMPLETION_INDEX]: is set by the system: leave it out",
        ),
        ({"volumes": [{"name": "finetune-x", "mountPath": "/x", "claimName": "c"}]}, "spec.volumes[finetune-x]"),
        ({"volumes": [{"name": "x", "mountPath": "/etc/finetune/", "claimName": "c"}]}, "spec.volumes[x].mountPath"),
        ({"volumes": [{"name": "x", "mountPath": "/var/run", "claimName": "c"}]}, "spec.volumes[x].mountPath"),
        (
            {
                "volumes": [
                    {"name": "x", "mountPath": "/x", "claimName": "c"},
                    {"name": "y", "mountPath": "/x", "claimName": "d"},
                ]
            },
            "another volume is mounted at /x already",
        ),
    ],
)
def test_volumes_and_variables_of_the_system_are_kept(spec: dict[str, Any], message: str) -> None:
    (problem,) = template_problems(job(**spec))
    assert message in problem


def test_devices_of_the_machine_may_be_mounted() -> None:
    trainer = {"name": "trainer", "volumeMounts": [{"name": "rdma", "mountPath": "/dev/infiniband"}]}
    assert problems({"containers": [trainer], "volumes": [{"name": "rdma", "hostPath": {"path": "/dev"}}]}) == ()


def test_a_volume_of_the_template_takes_no_other_ones_place() -> None:
    volumes = [{"name": "data", "mountPath": "/data", "claimName": "c"}]
    template = {"spec": {"volumes": [{"name": "data", "emptyDir": {}}]}}
    (problem,) = template_problems(job(volumes=volumes, template=template))
    assert problem == "spec.template.spec.volumes[data]: spec.volumes has one of this name: give it another"


def test_what_is_reserved_for_volumes_is_so_in_a_template() -> None:
    for path in RESERVED_MOUNT_PATHS:
        trainer = {"name": "trainer", "volumeMounts": [{"name": "x", "mountPath": path}]}
        assert len(problems({"containers": [trainer]})) == 1, path
