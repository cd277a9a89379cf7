"""Child objects against golden YAML, and what must hold of them whatever the job."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.plan.desired import manifests
from finetune_operator.plan.desired.pod_template import SCRIPT_PATH
from finetune_operator.plan.types import Manifest, PlanSettings
from finetune_trainer.contract.run_config import Peft, Publish, RunConfig, ScriptConfig
from finetune_trainer.contract.script import Launcher, Script
from tests.support.golden import assert_golden, load
from tests.support.run_configs import task_config

DEADLINE = datetime(2026, 1, 3, 4, 5, 6, tzinfo=UTC)
SETTINGS = PlanSettings(trainer_image="registry.example/finetune-trainer:0.1.0")


def job(name: str = "job-local.yaml", **spec: Any) -> FineTuneJob:
    body = load(name)
    return FineTuneJob.parse({**body, "spec": {**body["spec"], **spec}})


def pod(manifest: Manifest) -> dict[str, Any]:
    spec: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return spec


def trainer(manifest: Manifest) -> dict[str, Any]:
    (container,) = pod(manifest)["containers"]
    assert container["name"] == "trainer"
    trainer_container: dict[str, Any] = container
    return trainer_container


@pytest.mark.parametrize("name", ["local", "hub", "remote"])
def test_children_are_as_reviewed(name: str) -> None:
    user_job = job(f"job-{name}.yaml")
    made = [
        manifests.config_map(user_job, SETTINGS),
        manifests.service(user_job),
        manifests.claim(user_job),
        manifests.prepare_job(user_job, SETTINGS, 1),
        manifests.train_job(user_job, SETTINGS, 2),
        manifests.publish_job(user_job, SETTINGS, 3, DEADLINE) if user_job.spec.publish else None,
    ]
    assert_golden(f"children-{name}.yaml", [manifest for manifest in made if manifest is not None])


def test_config_map_holds_the_run_config_under_its_content_address() -> None:
    first, other = job(), job(checkpointIntervalSeconds=30)
    held = manifests.config_map(first, SETTINGS)
    assert RunConfig.model_validate_json(held["data"]["run.json"]) == manifests.run_config(first, SETTINGS)
    assert held["immutable"] is True
    assert manifests.config_map_name(first, SETTINGS) == held["metadata"]["name"]
    assert manifests.config_map_name(other, SETTINGS) != held["metadata"]["name"]
    assert held["metadata"]["name"] in json.dumps(manifests.train_job(first, SETTINGS, 1))


TASK_COLUMNS = [
    ("text-classification", {}, {"text": "text", "label": "label"}),
    ("text-classification", {"textPair": "b", "text": "a"}, {"text": "a", "text_pair": "b", "label": "label"}),
    ("token-classification", {"tags": "pos_tags"}, {"words": "tokens", "tags": "pos_tags"}),
    (
        "question-answering",
        {"id": "id"},
        {"question": "question", "context": "context", "answers": "answers", "id": "id"},
    ),
    ("summarization", {"text": "article"}, {"text": "article", "summary": "summary"}),
    (
        "translation",
        {"source": "translation.en", "target": "translation.de"},
        {"source": "translation.en", "target": "translation.de"},
    ),
    ("text-generation", {}, {}),
    ("text-generation", {"prompt": "q", "completion": "a"}, {"prompt": "q", "completion": "a"}),
    ("fill-mask", {}, {"text": "text"}),
]


@pytest.mark.parametrize(("task", "named", "columns"), TASK_COLUMNS)
def test_columns_are_the_tasks_own_under_their_roles(task: str, named: dict[str, str], columns: dict[str, str]) -> None:
    """The task itself chooses what the user did not name, where it can be given its text in several ways."""
    made = task_config(job(task=task, dataset={"name": "data", "columns": named}), SETTINGS)
    assert made.dataset.columns == columns


def test_a_run_config_says_nothing_of_what_the_job_does_not_use() -> None:
    held = json.loads(manifests.run_config(job(), SETTINGS).to_json())
    assert held["dataset"].keys() == {"files", "splits", "columns", "maxSamples"}
    assert held["preprocessing"] == {"maxLength": 64}
    assert not {"peft", "quantization", "earlyStopping", "lossWeights", "problemType"} & held.keys()
    used: dict[str, Any] = {
        "preprocessing": {"wholeWordMask": True, "padding": "max_length"},
        "task": "fill-mask",
        "dataset": {"name": "a", "streaming": True, "maxSamples": {"train": 1}},
        "peft": {},
    }
    config = task_config(job(**used), SETTINGS)
    assert (config.preprocessing.whole_word_mask, config.preprocessing.padding) == (True, "max_length")
    assert config.dataset.streaming
    assert config.peft == Peft()


def test_labels_and_their_weights_are_in_the_run_config() -> None:
    made = manifests.run_config(job(problemType="multi_label_classification", lossWeights="balanced"), SETTINGS)
    assert (made.problem_type, made.loss_weights) == ("multi_label_classification", "balanced")


REMOTE = {"files": {"train": ["/data/train.csv"], "test": ["s3://bucket/test.csv"]}}


@pytest.mark.parametrize(
    "dataset",
    [
        REMOTE,
        {"files": {"train": ["https://example.com/train.csv"]}},
        {"files": {"train": ["/data/train.csv"]}, "credentialsSecretRef": {"name": "bucket"}},
    ],
)
def test_data_from_elsewhere_is_fetched_by_a_job_of_its_own(dataset: dict[str, Any]) -> None:
    """Ranks, and so node 0 of an attempt, run offline and without credentials."""
    remote_job = job(dataset=dataset)
    assert manifests.needs_prepare_job(remote_job, SETTINGS)
    assert manifests.run_config(remote_job, SETTINGS).prepare == "job"
    assert manifests.addresses(job()) == ()


def test_only_who_reads_the_data_sees_its_credentials() -> None:
    token = {"tokenSecretRef": {"name": "hf", "key": "token"}}
    dataset = {**REMOTE, "credentialsSecretRef": {"name": "bucket"}}
    remote_job = job(dataset=dataset, hub=token, publish={"repoId": "me/x"})
    prepare = trainer(manifests.prepare_job(remote_job, SETTINGS, 1))
    assert prepare["envFrom"] == [{"secretRef": {"name": "bucket"}}]
    for made in (manifests.train_job(remote_job, SETTINGS, 1), manifests.publish_job(remote_job, SETTINGS, 1)):
        assert "bucket" not in json.dumps(made["spec"])
    assert "bucket" not in json.dumps(manifests.config_map(remote_job, SETTINGS)["data"]).replace("s3://bucket", "")


def test_a_templates_secrets_come_beside_the_credentials() -> None:
    mine = {"configMapRef": {"name": "proxy"}}
    template = {"spec": {"containers": [{"name": "trainer", "envFrom": [mine]}]}}
    remote_job = job(dataset={**REMOTE, "credentialsSecretRef": {"name": "bucket"}}, template=template)
    assert trainer(manifests.prepare_job(remote_job, SETTINGS, 1))["envFrom"] == [
        {"secretRef": {"name": "bucket"}},
        mine,
    ]
    assert trainer(manifests.train_job(remote_job, SETTINGS, 1))["envFrom"] == [mine]


def test_only_who_talks_to_the_hub_sees_the_token() -> None:
    hub_job = job("job-hub.yaml")
    for made in (manifests.prepare_job(hub_job, SETTINGS, 1), manifests.publish_job(hub_job, SETTINGS, 1)):
        assert "hf" in {volume.get("secret", {}).get("secretName") for volume in pod(made)["volumes"]}
    assert "hub-token" not in json.dumps(manifests.train_job(hub_job, SETTINGS, 1))


@pytest.mark.parametrize("make", [manifests.prepare_job, manifests.publish_job])
def test_only_training_takes_accelerators_and_all_are_placed_like_it(make: Callable[..., Manifest]) -> None:
    hub_job = job("job-hub.yaml")
    other, train = make(hub_job, SETTINGS, 1), manifests.train_job(hub_job, SETTINGS, 1)
    requests = {"cpu": "4", "memory": "8Gi"}
    assert trainer(other)["resources"] == {"limits": {"cpu": 16, "memory": "64Gi"}, "requests": requests}
    assert trainer(train)["resources"]["limits"]["nvidia.com/gpu"] == 4
    for field in ("nodeSelector", "tolerations"):
        assert pod(other)[field] == pod(train)[field]
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod(other)["tolerations"]


CLAIMING = {
    "spec": {
        "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}],
        "containers": [{"name": "trainer", "resources": {"claims": [{"name": "gpu"}]}}],
        "initContainers": [{"name": "side", "image": "side", "resources": {"claims": [{"name": "gpu"}]}}],
    }
}


@pytest.mark.parametrize("given_by", ["job", "administrator"])
def test_devices_by_claims_are_accelerators_of_training_alone(given_by: str) -> None:
    claiming_job = job(
        "job-hub.yaml", template=CLAIMING if given_by == "job" else {}, resources={"limits": {"memory": "32Gi"}}
    )
    settings = SETTINGS if given_by == "job" else replace(SETTINGS, pod_template=CLAIMING)
    config = manifests.run_config(claiming_job, settings)
    assert (config.accelerators, config.processes_per_node) == (True, 1)
    train = manifests.train_job(claiming_job, settings, 1)
    assert pod(train)["resourceClaims"] == CLAIMING["spec"]["resourceClaims"]
    assert trainer(train)["resources"] == {"limits": {"memory": "32Gi"}, "claims": [{"name": "gpu"}]}
    for other in (manifests.prepare_job(claiming_job, settings, 1), manifests.publish_job(claiming_job, settings, 1)):
        assert "resourceClaims" not in pod(other)
        assert '"claims"' not in json.dumps(pod(other))
        assert [container["name"] for container in pod(other)["initContainers"]] == ["side"]


def test_ranks_on_devices_by_claims_are_as_many_as_the_user_says() -> None:
    claiming_job = job(template=CLAIMING, resources={}, processesPerNode=8)
    assert (
        manifests.accelerators(claiming_job, SETTINGS),
        manifests.run_config(claiming_job, SETTINGS).processes_per_node,
    ) == (8, 8)


def test_claims_beside_devices_are_network_cards() -> None:
    claiming_job = job(template=CLAIMING, resources={"limits": {"nvidia.com/gpu": 4}})
    assert manifests.accelerators(claiming_job, SETTINGS) == 4


@pytest.mark.parametrize(
    "spec", [5, {"containers": 5}, {"containers": [5, {"name": "trainer", "resources": {"claims": [5, {"name": []}]}}]}]
)
def test_a_template_that_makes_no_sense_has_no_claims(spec: Any) -> None:
    assert manifests.accelerators(job(template={"spec": spec}, resources={}), SETTINGS) == 0


def test_what_is_published_is_in_the_run_config_and_needs_a_prepare_job() -> None:
    token = {"tokenSecretRef": {"name": "hf", "key": "token"}}
    publishing_job = job(hub=token, publish={"repoId": "me/x", "private": True, "deadlineSeconds": 60})
    config = manifests.run_config(publishing_job, SETTINGS)
    assert config.publish == Publish(repo_id="me/x", private=True, deadline_seconds=60)
    assert (config.prepare, manifests.needs_prepare_job(publishing_job, SETTINGS)) == ("job", True)
    assert manifests.run_config(job(), SETTINGS).publish is None


def test_a_publish_pod_knows_until_when_it_may_try() -> None:
    hub_job = job("job-hub.yaml")
    assert {"name": "FINETUNE_DEADLINE", "value": "2026-01-03T04:05:06Z"} in trainer(
        manifests.publish_job(hub_job, SETTINGS, 1, DEADLINE)
    )["env"]
    assert "FINETUNE_DEADLINE" not in json.dumps(manifests.publish_job(hub_job, SETTINGS, 1))


@pytest.mark.parametrize(
    ("resources", "count"),
    [
        ({}, 0),
        ({"limits": {"cpu": 2}}, 0),
        ({"limits": {"nvidia.com/gpu": 2}}, 2),
        ({"requests": {"amd.com/gpu": "1"}, "limits": {"amd.com/gpu": "1"}}, 1),
        ({"limits": {"nvidia.com/mig-1g.5gb": 1}}, 1),
        ({"limits": {"nvidia.com/gpu": 0}}, 0),
        ({"limits": {"nvidia.com/gpu.shared": 1}}, 1),
        ({"limits": {"nvidia.com/gpu.shared": 4}}, 1),
        ({"limits": {"nvidia.com/gpu-a100": 4}}, 4),
        ({"limits": {"nvidia.com/gpu": 2, "nvidia.com/gpumem": 3000, "nvidia.com/gpucores": 30}}, 2),
        ({"limits": {"nvidia.com/gpumem-percentage": 50}}, 1),
        ({"limits": {"amd.com/cpx_nps4": 8}}, 8),
        ({"limits": {"rdma/hca": 1, "vpc.amazonaws.com/efa": 4, "nvidia.com/hostdev": 2}}, 0),
    ],
)
def test_accelerators_decide_processes_and_preparing(resources: dict[str, Any], count: int) -> None:
    user_job = job(resources=resources)
    assert manifests.accelerators(user_job, SETTINGS) == count
    config = manifests.run_config(user_job, SETTINGS)
    assert (config.processes_per_node, config.accelerators) == (count or 1, count > 0)
    assert config.prepare == ("job" if count else "inline")


@pytest.mark.parametrize(
    ("resources", "helpers", "made"),
    [
        ({}, {}, {}),
        ({"limits": {"cpu": 2, "memory": "4Gi"}}, {}, {"limits": {"cpu": 2, "memory": "4Gi"}}),
        ({"requests": {"cpu": "500m"}}, {}, {"requests": {"cpu": "500m"}}),
        ({"requests": {"cpu": 8, "memory": "1Gi"}}, {}, {"requests": {"cpu": "4", "memory": "1Gi"}}),
        (
            {"limits": {"ephemeral-storage": "2Ti", "hugepages-2Mi": "1Gi"}},
            {},
            {"limits": {"ephemeral-storage": "2Ti"}, "requests": {"ephemeral-storage": "16Gi"}},
        ),
        (
            {"limits": {"cpu": 96, "memory": "900Gi"}},
            {"limits": {"memory": "32Gi"}},
            {"limits": {"cpu": 96, "memory": "32Gi"}, "requests": {"cpu": "4"}},
        ),
        (
            {"limits": {"memory": "16Gi"}},
            {"requests": {"memory": "64Gi"}},
            {"requests": {"memory": "64Gi"}},
        ),
        (
            {"limits": {"memory": "1e99999999999"}},
            {},
            {"limits": {"memory": "1e99999999999"}, "requests": {"memory": "8Gi"}},
        ),
    ],
)
def test_who_prepares_and_publishes_keeps_no_machine_for_it(
    resources: dict[str, Any], helpers: dict[str, Any], made: dict[str, Any]
) -> None:
    hub_job = job("job-hub.yaml", resources=resources, helperResources=helpers)
    for manifest in (manifests.prepare_job(hub_job, SETTINGS, 1), manifests.publish_job(hub_job, SETTINGS, 1)):
        assert trainer(manifest)["resources"] == made
    assert trainer(manifests.train_job(hub_job, SETTINGS, 1))["resources"] == resources


GPU = "nvidia.com/gpu"
A100 = {"spec": {"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}}}


@pytest.mark.parametrize(
    ("limits", "template", "gibibytes"),
    [
        ({GPU: 8}, {}, None),
        ({"cpu": 2}, A100, None),
        ({GPU: 8}, A100, 81),
        ({GPU: 8}, {"spec": {"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H200"}}}, None),
        ({GPU: 8}, {"spec": {"nodeSelector": {"nvidia.com/gpu.memory": "24576"}}}, 25),
        ({GPU: 8}, {"spec": {"nodeSelector": {"nvidia.com/gpu.memory": "lots"}}}, None),
        ({GPU: 8}, {"spec": {"nodeSelector": {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}}}, 81),
        ({GPU: 8}, {"spec": {"nodeSelector": {"cloud.google.com/gke-accelerator": "nvidia-l4"}}}, None),
        ({"nvidia.com/mig-3g.40gb": 1}, {}, 41),
        ({"nvidia.com/mig-1g.10gb.shared": 1}, {}, 11),
        ({GPU: 1, "nvidia.com/gpumem": 3000}, A100, 81),
        ({GPU: 8}, {"spec": {"nodeSelector": 5}}, None),
    ],
)
def test_the_memory_of_a_device_is_told_by_names_and_labels(
    limits: dict[str, Any], template: dict[str, Any], gibibytes: int | None
) -> None:
    config = manifests.run_config(job(resources={"limits": limits}, template=template), SETTINGS)
    assert config.device_memory_bytes == (None if gibibytes is None else gibibytes << 30)


def test_the_administrator_tells_the_memory_of_devices() -> None:
    settings = replace(SETTINGS, accelerator_memory_bytes={"nvidia.com/gpu*": 80 << 30}, pod_template=A100)
    assert (
        manifests.run_config(job(resources={"limits": {"nvidia.com/gpu-a100": 1}}), settings).device_memory_bytes
        == 81 << 30
    )
    settings = replace(settings, pod_template={})
    assert (
        manifests.run_config(job(resources={"limits": {"nvidia.com/gpu-a100": 1}}), settings).device_memory_bytes
        == 80 << 30
    )
    assert manifests.run_config(job(resources={"limits": {"amd.com/gpu": 1}}), settings).device_memory_bytes is None


@pytest.mark.parametrize(
    "spec",
    [
        {"model": {"name": "google-bert/bert-base-cased"}},
        {"dataset": {"name": "yelp_review_full"}},
        {"hub": {"tokenSecretRef": {"name": "hf", "key": "token"}}},
    ],
)
def test_whatever_talks_to_the_hub_is_prepared_in_its_own_job(spec: dict[str, Any]) -> None:
    assert manifests.needs_prepare_job(job(**spec), SETTINGS)
    assert not manifests.needs_prepare_job(job(), SETTINGS)


def test_processes_per_node_is_what_the_user_says() -> None:
    user_job = job(resources={"limits": {"nvidia.com/gpu": 4}}, processesPerNode=2)
    assert manifests.run_config(user_job, SETTINGS).processes_per_node == 2


def test_one_node_needs_no_service() -> None:
    one_node_job = job(nodes=1)
    assert manifests.service(one_node_job) is None
    assert manifests.run_config(one_node_job, SETTINGS).peers is None
    assert "subdomain" not in pod(manifests.train_job(one_node_job, SETTINGS, 1))


def test_nodes_find_each_other_by_the_names_in_the_run_config() -> None:
    user_job = job()
    service, train = manifests.service(user_job), manifests.train_job(user_job, SETTINGS, 3)
    assert service is not None
    peers = manifests.run_config(user_job, SETTINGS).peers
    assert peers is not None
    assert peers.format(attempt=3, node=1) == f"{train['metadata']['name']}-1.{service['metadata']['name']}:8080"
    assert pod(train)["subdomain"] == service["metadata"]["name"]
    labels = train["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


@pytest.mark.parametrize(
    ("nodes", "storage", "mode"),
    [
        (1, {"size": "1Gi"}, "ReadWriteOnce"),
        (2, {"size": "1Gi"}, "ReadWriteMany"),
        (1, {"size": "1Gi", "accessMode": "ReadWriteMany"}, "ReadWriteMany"),
    ],
)
def test_claim_has_the_mode_that_its_nodes_need(nodes: int, storage: dict[str, Any], mode: str) -> None:
    made = manifests.claim(job(nodes=nodes, storage=storage))
    assert made is not None
    assert made["spec"]["accessModes"] == [mode]


def test_retained_claim_has_no_owner_and_is_still_ours() -> None:
    retained = manifests.claim(job())
    owned = manifests.claim(job(storage={"size": "1Gi", "retain": False}))
    assert retained is not None
    assert owned is not None
    assert "ownerReferences" not in retained["metadata"]
    assert owned["metadata"]["ownerReferences"]
    assert manifests.is_controlled_by(retained, job())
    assert manifests.is_controlled_by(owned, job())


def test_claim_of_the_user_is_not_made() -> None:
    job_on_claim = job(storage={"claimName": "shared"})
    assert manifests.claim(job_on_claim) is None
    assert manifests.claim_name(job_on_claim) == "shared"


def test_ours_is_what_our_uid_controls() -> None:
    owner = job()
    train = manifests.train_job(owner, SETTINGS, 1)
    assert manifests.is_controlled_by(train, owner)
    body = load("job-local.yaml")
    successor = FineTuneJob.parse({**body, "metadata": {**body["metadata"], "uid": "another"}})
    assert not manifests.is_controlled_by(train, successor)
    assert not manifests.is_controlled_by({"kind": "Job", "metadata": {"name": train["metadata"]["name"]}}, owner)
    labelled = {"kind": "Service", "metadata": {"labels": {"finetune.dev/uid": owner.metadata.uid}}}
    assert not manifests.is_controlled_by(labelled, owner)


def test_claim_that_is_data_and_output_is_one_volume_with_two_mounts() -> None:
    job_on_claim = job(storage={"claimName": "reviews-data"})
    train = manifests.train_job(job_on_claim, SETTINGS, 1)
    claims = [volume for volume in pod(train)["volumes"] if "persistentVolumeClaim" in volume]
    assert claims == [{"name": "finetune-output", "persistentVolumeClaim": {"claimName": "reviews-data"}}]
    mounts = {mount["mountPath"]: mount for mount in trainer(train)["volumeMounts"]}
    assert mounts["/data"] == {"name": "finetune-output", "mountPath": "/data", "readOnly": True}
    assert mounts["/output"]["name"] == "finetune-output"


def test_names_fit_the_longest_job() -> None:
    body = load("job-local.yaml")
    longest = FineTuneJob.parse({**body, "metadata": {**body["metadata"], "name": "a" * 46}})
    train = manifests.train_job(longest, SETTINGS, 99999)
    assert len(f"{train['metadata']['name']}-999") <= 63


# --- programs of the user's own ---------------------------------------------------------------------------------------

CODE = {"configMap": {"name": "code", "key": "train.py"}}
DATA = {"name": "data", "mountPath": "/data", "readOnly": True, "claimName": "reviews-data"}


def script_job(script: dict[str, Any] | None = None, **spec: Any) -> FineTuneJob:
    body = load("job-local.yaml")
    base = {"script": {**CODE, **(script or {})}, "storage": {"size": "1Gi"}, "volumes": [DATA]}
    return FineTuneJob.parse({**body, "spec": {**base, **spec}})


@pytest.mark.parametrize(
    ("script", "spec", "prepare"),
    [
        ({}, {}, "none"),
        ({}, {"nodes": 4}, "none"),
        ({}, {"resources": {"limits": {"nvidia.com/gpu": 8}}}, "none"),
        ({}, {"model": {"name": "/data/model"}, "dataset": {"files": {"train": ["/data/train.csv"]}}}, "inline"),
        ({}, {"dataset": {"files": {"train": ["/data/train.csv"]}}}, "inline"),
        ({}, {"model": {"name": "google-bert/bert-base-cased"}}, "job"),
        ({}, {"dataset": {"name": "imdb"}}, "job"),
        ({}, {"dataset": {"files": {"train": ["/data/a.csv"], "test": ["https://example.com/b.csv"]}}}, "job"),
        ({"requirements": ["evaluate==0.4.6"]}, {}, "job"),
        ({}, {"publish": {"repoId": "me/x"}, "hub": {"tokenSecretRef": {"name": "hf", "key": "token"}}}, "job"),
        ({}, {"hub": {"tokenSecretRef": {"name": "hf", "key": "token"}}}, "job"),
    ],
)
def test_program_is_prepared_for_only_where_it_names_something(
    script: dict[str, Any], spec: dict[str, Any], prepare: str
) -> None:
    """Accelerators do not wait for what lies on a volume: nobody tokenises it."""
    made = script_job(script, **spec)
    assert manifests.needs_prepare_job(made, SETTINGS) is (prepare == "job")
    config = ScriptConfig.model_validate_json(manifests.run_config(made, SETTINGS).to_json())
    assert config.prepare == prepare


def test_program_in_a_config_map_is_mounted_in_the_pods_that_train_alone() -> None:
    made = script_job(publish={"repoId": "me/x"}, hub={"tokenSecretRef": {"name": "hf", "key": "token"}})
    train = manifests.train_job(made, SETTINGS, 1)
    (volume,) = (volume for volume in pod(train)["volumes"] if volume.get("configMap", {}).get("name") == "code")
    (mount,) = (mount for mount in trainer(train)["volumeMounts"] if mount["name"] == volume["name"])
    assert (mount["mountPath"], mount["readOnly"]) == (SCRIPT_PATH, True)
    config = ScriptConfig.model_validate_json(manifests.run_config(made, SETTINGS).to_json())
    assert config.script.path == f"{SCRIPT_PATH}/train.py"
    for other in (manifests.prepare_job(made, SETTINGS, 1), manifests.publish_job(made, SETTINGS, 1, DEADLINE)):
        assert all(volume.get("configMap", {}).get("name") != "code" for volume in pod(other)["volumes"])
        assert all(mount["mountPath"] != SCRIPT_PATH for mount in trainer(other)["volumeMounts"])


@pytest.mark.parametrize("source", [{"path": "/data/train.py"}, {"module": "trl.scripts.sft"}])
def test_program_elsewhere_mounts_nothing(source: dict[str, str]) -> None:
    made = script_job({"configMap": None, **source})
    assert all(
        mount["mountPath"] != SCRIPT_PATH for mount in trainer(manifests.train_job(made, SETTINGS, 1))["volumeMounts"]
    )
    config = ScriptConfig.model_validate_json(manifests.run_config(made, SETTINGS).to_json())
    assert (config.script.path, config.script.module) == (source.get("path"), source.get("module"))


@pytest.mark.parametrize(
    ("launcher", "spec", "processes"),
    [
        ("python", {"resources": {"limits": {"nvidia.com/gpu": 8}}}, 1),
        ("python", {}, 1),
        ("torchrun", {"resources": {"limits": {"nvidia.com/gpu": 8}}}, 8),
        ("accelerate", {"resources": {"limits": {"nvidia.com/gpu": 8}}}, 8),
        ("torchrun", {"processesPerNode": 2}, 2),
        ("torchrun", {}, 1),
    ],
)
def test_python_is_one_process_a_node(launcher: str, spec: dict[str, Any], processes: int) -> None:
    made = manifests.run_config(script_job({"launcher": launcher}, nodes=2, **spec), SETTINGS)
    assert (made.processes_per_node, made.world_size) == (processes, 2 * processes)


def test_pods_are_told_all_of_the_script() -> None:
    script = {
        "launcher": "accelerate",
        "args": ["--out=$(OUTPUT_DIR)"],
        "requirements": ["evaluate==0.4.6"],
        "checkpointArgument": "--resume_from_checkpoint",
        "outputs": {"model": "final"},
        "progressPattern": "(?P<step>[0-9]+)",
        "accelerateConfig": {"mixed_precision": "no", "fsdp_config": {"fsdp_offload_params": False}},
        "preflight": True,
    }
    config = ScriptConfig.model_validate_json(manifests.run_config(script_job(script), SETTINGS).to_json())
    assert config.script == Script(
        launcher=Launcher.ACCELERATE,
        path=f"{SCRIPT_PATH}/train.py",
        arguments=("--out=$(OUTPUT_DIR)",),
        requirements=("evaluate==0.4.6",),
        checkpoint_argument="--resume_from_checkpoint",
        model_output="final",
        progress_pattern="(?P<step>[0-9]+)",
        accelerate_config={"mixed_precision": "no", "fsdp_config": {"fsdp_offload_params": False}},
        preflight=True,
    )
    assert (config.task, config.model, config.dataset) == (None, None, None)


def test_run_config_of_a_task_says_nothing_of_a_script() -> None:
    held = json.loads(manifests.run_config(job(), SETTINGS).to_json())
    assert "script" not in held
