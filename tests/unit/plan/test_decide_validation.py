"""What only the cluster can tell about a spec: the job waits, says why, and goes on by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from finetune_operator.plan.template_policy import Capability
from finetune_operator.plan.types import Delete, Manifest, Ref, Refusal
from tests.support.simulated import HUB_SPEC, SPEC, World
from tests.support.simulated_cluster import NAMESPACE, UID, claim

CLAIM = Ref("PersistentVolumeClaim", "shared")


def data_volume(**source: Any) -> dict[str, Any]:
    return {**SPEC, "volumes": [{"name": "data", "mountPath": "/data", "readOnly": True, **source}]}


def variable(key: str) -> dict[str, Any]:
    ref = {"configMapKeyRef": {"name": "settings", "key": key}}
    return {**SPEC, "env": [{"name": "LEVEL", "valueFrom": ref}]}


def config_map(**data: str) -> Manifest:
    return {"kind": "ConfigMap", "metadata": {"name": "settings", "uid": "uid-settings"}, "data": data}


def lost() -> Manifest:
    return {**claim("shared"), "status": {"phase": "Lost"}}


def block() -> Manifest:
    volume_claim = claim("shared")
    return {**volume_claim, "spec": {**volume_claim["spec"], "volumeMode": "Block"}}


def waiting_for(storage_class: str) -> Manifest:
    volume_claim = claim("shared")
    return {
        **volume_claim,
        "spec": {**volume_claim["spec"], "storageClassName": storage_class},
        "status": {"phase": "Pending"},
    }


def asking_for(name: str) -> dict[str, Any]:
    return {**SPEC, "resources": {"limits": {name: 1}}}


def test_a_job_whose_accelerator_nobody_knows_waits_for_the_administrator() -> None:
    world = World(spec=asking_for("example.com/gpu-a100"), cluster={CLAIM: claim("shared")})
    world.wake()
    validated = world.condition("Validated")
    assert (world.phase, validated["reason"]) == ("Pending", "AcceleratorUnknown")
    assert "spec.resources.limits[example.com/gpu-a100]" in validated["message"]
    world.settings = replace(world.settings, accelerator_resources=("example.com/gpu-a100",))
    world.wake()
    assert world.condition("Validated")["status"] == "True"


@pytest.mark.parametrize("name", ["example.com/fpga", "rdma/hca", "vpc.amazonaws.com/efa", "nvidia.com/hostdev"])
def test_a_device_that_is_no_accelerator_is_nobodys_concern(name: str) -> None:
    world = World(spec=asking_for(name), cluster={CLAIM: claim("shared")})
    world.wake()
    assert world.condition("Validated")["status"] == "True"


@pytest.mark.parametrize(
    ("spec", "cluster", "reason", "words", "mended"),
    [
        (SPEC, {}, "ClaimNotFound", ["spec.storage.claimName", "'shared'", "'team'"], {CLAIM: claim("shared")}),
        (
            SPEC,
            {CLAIM: claim("shared", ("ReadWriteOnce",))},
            "AccessMode",
            ["spec.nodes is 2", "'shared'", "ReadWriteOnce", "nodes: 1"],
            {CLAIM: claim("shared")},
        ),
        (SPEC, {CLAIM: claim("shared", ("ReadOnlyMany",))}, "AccessMode", ["written"], {CLAIM: claim("shared")}),
        (
            SPEC,
            {CLAIM: claim("shared", deletionTimestamp="2026-03-01T12:00:00Z")},
            "ClaimTerminating",
            ["being deleted"],
            {CLAIM: claim("shared")},
        ),
        (SPEC, {CLAIM: lost()}, "ClaimLost", ["lost its volume"], {CLAIM: claim("shared")}),
        (SPEC, {CLAIM: block()}, "ClaimIsBlock", ["volumeMode: Filesystem"], {CLAIM: claim("shared")}),
        (
            data_volume(claimName="reviews-data"),
            {CLAIM: claim("shared")},
            "ClaimNotFound",
            ["spec.volumes[data].claimName", "'reviews-data'"],
            {Ref("PersistentVolumeClaim", "reviews-data"): claim("reviews-data")},
        ),
        (
            data_volume(claimName="reviews-data"),
            {
                CLAIM: claim("shared"),
                Ref("PersistentVolumeClaim", "reviews-data"): claim("reviews-data", ("ReadWriteOnce",)),
            },
            "AccessMode",
            ["spec.volumes[data].claimName", "ReadOnlyMany"],
            {Ref("PersistentVolumeClaim", "reviews-data"): claim("reviews-data", ("ReadOnlyMany",))},
        ),
        (
            data_volume(configMap="settings"),
            {CLAIM: claim("shared")},
            "ConfigMapNotFound",
            ["spec.volumes[data].configMap", "'settings'"],
            {Ref("ConfigMap", "settings"): config_map(a="1")},
        ),
        (
            variable("level"),
            {CLAIM: claim("shared"), Ref("ConfigMap", "settings"): config_map(a="1")},
            "ConfigMapKeyNotFound",
            ["spec.env[LEVEL]", "'level'", "its keys: a"],
            {Ref("ConfigMap", "settings"): config_map(level="1")},
        ),
        (
            {**SPEC, "storage": {"size": "1Gi", "storageClassName": "nfs"}},
            {},
            "StorageClassNotFound",
            ["spec.storage.storageClassName", "'nfs'"],
            {Ref("StorageClass", "nfs"): {"kind": "StorageClass", "metadata": {"name": "nfs"}}},
        ),
        (
            SPEC,
            {CLAIM: waiting_for("nfs")},
            "StorageClassNotFound",
            ["spec.storage.claimName", "claim 'shared' waits for its volume", "no StorageClass 'nfs'"],
            {CLAIM: {**waiting_for("nfs"), "status": {"phase": "Bound"}}},
        ),
    ],
)
def test_missing_reference_keeps_job_waiting(
    spec: dict[str, Any], cluster: dict[Ref, Manifest], reason: str, words: list[str], mended: dict[Ref, Manifest]
) -> None:
    """A missing or unfit reference keeps the job waiting until it is mended."""
    world = World(spec=spec, cluster=cluster)
    world.wake()
    validated = world.condition("Validated")
    assert (world.phase, validated["status"], validated["reason"]) == ("Pending", "False", reason)
    assert [word for word in words if word not in validated["message"]] == []
    assert world.names("Job") == []
    assert world.reasons() == [reason]
    world.cluster |= mended
    world.after(2)
    assert (world.phase, world.condition("Validated")["status"]) == ("Starting", "True")
    assert world.reasons()[:2] == [reason, "Validated"]


SCRIPT_SPEC: dict[str, Any] = {
    "script": {"configMap": {"name": "code", "key": "train.py"}},
    "storage": {"claimName": "shared"},
}
CODE = {
    Ref("ConfigMap", "code"): {"kind": "ConfigMap", "metadata": {"name": "code"}, "data": {"train.py": "", "b.py": ""}}
}


def with_script(**fields: Any) -> dict[str, Any]:
    return {**SCRIPT_SPEC, "script": {**SCRIPT_SPEC["script"], **fields}}


@pytest.mark.parametrize(
    "pattern",
    ["(?P<step>[0-9]+", "(?P<step>*)", "(?P<step>a)(?P<step>b)", "(?P<step>a){99999999999}", "(?P<step>" * 100],
)
def test_progress_pattern_that_python_refuses_is_told_at_once(pattern: str) -> None:
    world = World(spec=with_script(progressPattern=pattern), cluster={CLAIM: claim("shared"), **CODE})
    world.wake()
    validated = world.condition("Validated")
    assert (validated["status"], validated["reason"]) == ("False", "ScriptInvalid")
    assert "spec.script.progressPattern" in validated["message"]
    assert pattern[:20] in validated["message"]
    assert (world.phase, world.names("Job")) == ("Failed", []), "nothing from outside mends it"


def test_progress_pattern_that_python_takes_starts_the_program() -> None:
    pattern = "step (?P<step>[0-9]+)/(?P<total>[0-9]+)"
    world = World(spec=with_script(progressPattern=pattern), cluster={CLAIM: claim("shared"), **CODE})
    world.wake()
    assert (world.phase, world.condition("Validated")["status"]) == ("Starting", "True")


@pytest.mark.parametrize(
    ("key", "cluster", "reason", "words"),
    [
        ("train.py", {}, "ConfigMapNotFound", ["spec.script.configMap", "'code'"]),
        ("a.py", CODE, "ConfigMapKeyNotFound", ["spec.script.configMap", "'a.py'", "its keys: b.py, train.py"]),
    ],
)
def test_program_that_is_not_there_yet_is_waited_for(
    key: str, cluster: dict[Ref, Manifest], reason: str, words: list[str]
) -> None:
    world = World(spec=with_script(configMap={"name": "code", "key": key}), cluster={CLAIM: claim("shared"), **cluster})
    world.wake()
    validated = world.condition("Validated")
    assert (world.phase, validated["reason"], world.names("Job")) == ("Pending", reason, [])
    assert [word for word in words if word not in validated["message"]] == []
    code = {"kind": "ConfigMap", "metadata": {"name": "code"}, "data": {key: ""}}
    world.cluster |= {Ref("ConfigMap", "code"): code}
    world.after(2)
    assert world.phase == "Starting"


def test_the_longer_a_job_waits_the_more_rarely_we_look() -> None:
    world = World(cluster={})
    world.wake()
    pauses = [world.decision.requeue_after_seconds]
    for _ in range(7):
        pauses.append(world.after(pauses[-1] or 0).requeue_after_seconds)
    assert pauses == [2.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert world.writes == 1


def test_all_that_is_missing_is_told_at_once() -> None:
    world = World(spec=data_volume(configMap="settings"), cluster={})
    world.wake()
    message = world.condition("Validated")["message"]
    assert "'shared'" in message
    assert "'settings'" in message


def test_a_claim_that_can_be_read_by_nobody_else_is_enough_for_one_node() -> None:
    world = World(spec={**SPEC, "nodes": 1}, cluster={CLAIM: claim("shared", ("ReadWriteOnce",))})
    world.wake()
    assert world.phase == "Starting"
    assert world.status["claim"] == {"name": "shared", "accessMode": "ReadWriteOnce"}


def test_forbidden_template_waits() -> None:
    """A template that asks for what the administrator lets no job have waits for an edit or for the administrator."""
    asking = {**SPEC, "template": {"spec": {"volumes": [{"name": "models", "hostPath": {"path": "/models"}}]}}}
    edited, allowed = World(spec=asking), World(spec=asking)
    for world in (edited, allowed):
        world.wake()
        validated = world.condition("Validated")
        assert (world.phase, validated["reason"]) == ("Pending", "TemplateNotAllowed")
        assert 'spec.template.spec.volumes[models].hostPath: {"path": "/models"} is not' in validated["message"]
        assert world.names("Job") == []
    edited.spec, edited.generation = SPEC, 2
    allowed.settings = replace(allowed.settings, template_allows=(Capability.HOST_PATH,))
    for world in (edited, allowed):
        world.after(2)
        assert (world.phase, world.condition("Validated")["status"]) == ("Starting", "True")


def foreign(kind: str, name: str, **metadata: Any) -> Manifest:
    return {"kind": kind, "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"foreign-{name}", **metadata}}


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize(
    ("spec", "kind", "name"),
    [
        (SPEC, "Service", "reviews"),
        (SPEC, "Job", "reviews-train-1"),
        (HUB_SPEC, "Service", "reviews"),
        (HUB_SPEC, "Job", "reviews-prepare-1"),
        ({**SPEC, "storage": {"size": "1Gi"}}, "PersistentVolumeClaim", "reviews"),
    ],
)
def test_an_object_of_a_planned_name_that_is_not_ours_is_never_touched(
    spec: dict[str, Any], kind: str, name: str, *, shown: bool
) -> None:
    world = World(spec=spec)
    theirs = foreign(kind, name)
    world.objects[theirs["metadata"]["uid"]] = theirs
    world.hidden = set() if shown else {theirs["metadata"]["uid"]}
    before = str(theirs)
    world.wake()
    validated = world.condition("Validated")
    assert (world.phase, validated["status"], validated["reason"]) == ("Pending", "False", "NameTaken")
    assert f"{kind} '{name}'" in validated["message"]
    assert [job_name for job_name in world.names("Job") if "train" in job_name and world.pods_of(job_name)] == []
    assert str(theirs) == before
    assert [a for a in world.actions if isinstance(a, Delete) and a.uid == theirs["metadata"]["uid"]] == []
    del world.objects[theirs["metadata"]["uid"]]
    world.after(2)
    assert world.phase in ("Starting", "Preparing")
    assert world.condition("Validated")["status"] == "True"


def test_the_kept_claim_of_a_former_job_is_not_taken_over() -> None:
    world = World(spec={**SPEC, "storage": {"size": "1Gi"}})
    kept = claim("reviews", labels={"finetune.dev/job": "reviews", "finetune.dev/uid": "former"})
    world.objects[kept["metadata"]["uid"]] = kept
    world.wake()
    validated = world.condition("Validated")
    assert (world.phase, validated["reason"]) == ("Pending", "NameTaken")
    assert "spec.storage.claimName: reviews" in validated["message"]
    assert world.names("Job") == []
    world.cluster[Ref("PersistentVolumeClaim", "reviews")] = claim("reviews")
    world.edit(storage={"claimName": "reviews"})
    assert (world.phase, world.status["claim"]["name"]) == ("Starting", "reviews")


def test_our_own_claim_is_found_by_its_label() -> None:
    world = World(spec={**SPEC, "storage": {"size": "1Gi"}})
    ours = claim("reviews", labels={"finetune.dev/job": "reviews", "finetune.dev/uid": UID})
    world.objects[ours["metadata"]["uid"]] = ours
    world.wake()
    assert world.phase == "Starting"


def test_more_nodes_on_claim_for_one_are_refused() -> None:
    """Raising nodes on a claim that was made for one is refused with that reason."""
    world = World(spec={**SPEC, "storage": {"size": "1Gi"}})
    ours = claim("reviews", ("ReadWriteOnce",), labels={"finetune.dev/job": "reviews", "finetune.dev/uid": UID})
    world.objects[ours["metadata"]["uid"]] = ours
    world.wake()
    validated = world.condition("Validated")
    assert (world.phase, validated["reason"]) == ("Pending", "AccessMode")
    assert "fixed once made" in validated["message"]


def test_template_overriding_system_fails_until_edited() -> None:
    """A template that overrides the system fails the job, and an edit starts it again."""
    bad = {"spec": {"containers": [{"name": "trainer", "command": ["sh"]}]}}
    world = World(spec={**SPEC, "template": bad})
    world.wake()
    assert (world.phase, world.condition("Validated")["reason"]) == ("Failed", "TemplateInvalid")
    assert world.condition("Stalled")["status"] == "True"
    assert world.status["failure"]["resolution"].startswith("Edit the spec")
    world.after(60)
    assert (world.phase, world.names("Job")) == ("Failed", [])
    world.edit(template={})
    assert (world.phase, "failure" in world.status, "completionTime" in world.status) == ("Starting", False, False)
    assert world.condition("Failed")["status"] == "False"


def test_what_the_api_server_refuses_is_told_and_tried_again() -> None:
    world = World()
    refused = Ref("Job", "reviews-train-1")
    text = 'jobs.batch "reviews-train-1" is forbidden: exceeded quota: few, requested: count/jobs.batch=1'
    world.refusals = (Refusal(refused, 403, "Forbidden", text),)
    world.wake()
    validated = world.condition("Validated")
    assert (world.phase, validated["status"], validated["reason"]) == ("Pending", "False", "CreateForbidden")
    assert "exceeded quota" in validated["message"]
    assert world.names("Job") == []
    world.refusals = ()
    world.after(2)
    assert (world.phase, world.names("Job")) == ("Starting", ["reviews-train-1"])
    assert world.condition("Validated")["status"] == "True"


@pytest.mark.parametrize(
    ("refusal", "reason", "words"),
    [
        (
            Refusal(Ref("Job", "reviews-train-1"), 500, "InternalError", 'failed calling webhook "quota.example.org"'),
            "CreateUnavailable",
            "Job 'reviews-train-1' now: failed calling webhook \"quota.example.org\". What to do: nothing if it passes",
        ),
        (
            Refusal(Ref("Job", "reviews-train-1"), 0, "Unanswered", ""),
            "CreateUnanswered",
            "has not answered yet to the creation of Job 'reviews-train-1'",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("Create") else "",
)
def test_what_the_api_server_cannot_answer_is_told_as_passing(refusal: Refusal, reason: str, words: str) -> None:
    world = World()
    world.refusals = (refusal,)
    world.wake()
    validated = world.condition("Validated")
    assert (world.phase, validated["status"], validated["reason"]) == ("Pending", "False", reason)
    assert words in validated["message"]
    assert world.condition("Reconciling")["message"] == validated["message"]
    assert world.status["summary"]["reason"] == reason
    assert [(note.type, note.reason) for note in world.notes] == [("Warning", reason)]
    world.refusals = ()
    world.after(2)
    assert (world.phase, world.names("Job")) == ("Starting", ["reviews-train-1"])
