"""Manifests as people have them: what must come of each. Those with data or models are in `tests/training/test_cases.py`."""

from __future__ import annotations

from finetune_operator.cli.validate import validate
from finetune_operator.plan.desired import manifests
from finetune_operator.plan.types import PlanSettings
from tests.support.spec_case import GPU, job, manifest

SETTINGS = PlanSettings(trainer_image="trainer")
ON_TWO_GPUS = {"nodes": 2, "resources": {"limits": {GPU: 1, "memory": "32Gi"}}}


def test_the_user_may_be_given_by_the_namespace() -> None:
    """OpenShift gives each namespace a range of users and refuses pods that name another. Right: the template takes the
    system's user out of the pods of all roles, and what else it says reaches all of them too.
    """
    templated_job = job(
        **ON_TWO_GPUS,
        template={
            "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}},
            "spec": {
                "securityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None},
                "priorityClassName": "high",
                "imagePullSecrets": [{"name": "registry"}],
                "tolerations": [{"key": "pool", "operator": "Equal", "value": "gpu", "effect": "NoSchedule"}],
            },
        },
        **{"hub.tokenSecretRef": {"name": "hf", "key": "token"}, "publish": {"repoId": "me/reviews"}},
    )
    made = [
        make(templated_job, SETTINGS, 1) for make in (manifests.prepare_job, manifests.train_job, manifests.publish_job)
    ]
    assert len(made) == 3
    for child in made:
        template = child["spec"]["template"]
        assert template["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"
        pod = template["spec"]
        assert {"runAsUser", "runAsGroup", "fsGroup"} & set(pod["securityContext"]) == set()
        assert pod["securityContext"]["runAsNonRoot"] is True, "the rest of it stays"
        assert (pod["priorityClassName"], pod["imagePullSecrets"]) == ("high", [{"name": "registry"}])
        assert "pool" in [toleration.get("key") for toleration in pod["tolerations"]]


def test_a_metric_may_be_called_as_in_the_tutorials() -> None:
    """`eval_accuracy` is what the Trainer makes of accuracy, and half of all scripts write it so. Right: it is taken."""
    arguments = {"eval_strategy": "epoch", "load_best_model_at_end": True, "metric_for_best_model": "eval_accuracy"}
    assert (
        validate(manifest({"dataset.splits": {"train": "train", "validation": "test"}, "trainingArguments": arguments}))
        == ()
    )
