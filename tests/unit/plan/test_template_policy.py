"""What jobs may ask for in their pod templates: each right is found wherever it can stand, and what the administrator gives stays."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.plan.desired.manifests import template_off_limits, train_job
from finetune_operator.plan.template_policy import DEFAULT_ALLOWED, Capability
from finetune_operator.plan.types import PlanSettings
from tests.support.golden import load

ALL = tuple(Capability)


def job(pod: Any, *, volumes: Any = (), **template: Any) -> FineTuneJob:
    body, asked = load("job-local.yaml"), {"spec": pod, **template} if pod or template else {}
    spec = {**body["spec"], "template": asked, "volumes": list(volumes)}
    return FineTuneJob.parse({**body, "spec": spec})


def refused(pod: Any, *, allows: Any = (), defaults: Any = None, volumes: Any = (), **template: Any) -> tuple[str, ...]:
    settings = PlanSettings(trainer_image="trainer", template_allows=allows, pod_template=defaults or {})
    return template_off_limits(job(pod, volumes=volumes, **template), settings)


def trainer(**fields: Any) -> dict[str, Any]:
    return {"containers": [{"name": "trainer", **fields}]}


def sidecar(**fields: Any) -> dict[str, Any]:
    return {"initContainers": [{"name": "side", "image": "x", "restartPolicy": "Always", **fields}]}


def volume(**source: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "v", **source}]}


PROJECTED = {"projected": {"sources": [{"configMap": {"name": "a"}}, {"serviceAccountToken": {"path": "token"}}]}}
CASES: list[tuple[Capability, dict[str, Any], str]] = [
    (Capability.HOST_PATH, volume(hostPath={"path": "/"}), 'volumes[v].hostPath: {"path": "/"}'),
    (Capability.HOST_NETWORK, {"hostNetwork": True}, "hostNetwork: true"),
    (
        Capability.HOST_NETWORK,
        trainer(ports=[{"containerPort": 1, "hostPort": 22}]),
        "containers[trainer].ports[1].hostPort: 22",
    ),
    (
        Capability.HOST_NETWORK,
        sidecar(livenessProbe={"httpGet": {"host": "169.254.169.254", "port": 80}}),
        "initContainers[side].livenessProbe.httpGet.host: 169.254.169.254",
    ),
    (
        Capability.HOST_NETWORK,
        trainer(lifecycle={"preStop": {"tcpSocket": {"host": "10.0.0.1", "port": 6443}}}),
        "containers[trainer].lifecycle.preStop.tcpSocket.host: 10.0.0.1",
    ),
    (Capability.HOST_PROCESSES, {"hostPID": True}, "hostPID: true"),
    (Capability.HOST_PROCESSES, {"hostIPC": True}, "hostIPC: true"),
    (Capability.NODE_NAME, {"nodeName": "control-plane"}, "nodeName: control-plane"),
    (Capability.NETWORK_VOLUMES, volume(nfs={"server": "nas", "path": "/others"}), "volumes[v].nfs: "),
    (Capability.NETWORK_VOLUMES, volume(csi={"driver": "x"}), "volumes[v].csi: "),
    (Capability.SERVICE_ACCOUNT, {"serviceAccountName": "deployer"}, "serviceAccountName: deployer"),
    (Capability.SERVICE_ACCOUNT, {"serviceAccount": "deployer"}, "serviceAccount: deployer"),
    (Capability.SERVICE_ACCOUNT, volume(**PROJECTED), "volumes[v].projected.sources[1].serviceAccountToken: "),
    (Capability.PRIORITY_CLASS, {"priorityClassName": "urgent"}, "priorityClassName: urgent"),
    (Capability.RUNTIME_CLASS, {"runtimeClassName": "runc"}, "runtimeClassName: runc"),
    (Capability.PRIVILEGED, volume(gitRepo={"repository": "x"}), "volumes[v].gitRepo: "),
    (Capability.PRIVILEGED, volume(flexVolume={"driver": "x"}), "volumes[v].flexVolume: "),
    (Capability.PRIVILEGED, {"securityContext": None}, "securityContext.runAsNonRoot: false"),
    (Capability.PRIVILEGED, {"securityContext": {"runAsNonRoot": None}}, "securityContext.runAsNonRoot: false"),
    (Capability.PRIVILEGED, {"securityContext": {"runAsUser": 0}}, "securityContext.runAsUser: 0"),
    (
        Capability.PRIVILEGED,
        {"securityContext": {"seccompProfile": None}},
        "securityContext.seccompProfile: Unconfined",
    ),
    (
        Capability.PRIVILEGED,
        {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
        "securityContext.sysctls[kernel.msgmax]: 1",
    ),
    (
        Capability.PRIVILEGED,
        {"securityContext": {"windowsOptions": {"hostProcess": True}}},
        "securityContext.windowsOptions.hostProcess: true",
    ),
]
IN_A_CONTAINER: list[tuple[dict[str, Any], str]] = [
    ({"privileged": True}, "privileged: true"),
    ({"allowPrivilegeEscalation": True}, "allowPrivilegeEscalation: true"),
    ({"runAsUser": 0}, "runAsUser: 0"),
    ({"runAsNonRoot": False}, "runAsNonRoot: false"),
    ({"capabilities": {"add": ["NET_BIND_SERVICE", "SYS_ADMIN"]}}, "capabilities.add: SYS_ADMIN"),
    ({"capabilities": {"drop": ["NET_RAW"]}}, "capabilities.drop: less than ALL (NET_RAW)"),
    ({"seccompProfile": {"type": "Unconfined"}}, "seccompProfile: Unconfined"),
    ({"appArmorProfile": {"type": "Unconfined"}}, "appArmorProfile: Unconfined"),
    ({"procMount": "Unmasked"}, "procMount: Unmasked"),
    ({"seLinuxOptions": {"type": "spc_t"}}, 'seLinuxOptions: {"type": "spc_t"}'),
    ({"windowsOptions": {"hostProcess": True}}, "windowsOptions.hostProcess: true"),
]
for context, field in IN_A_CONTAINER:
    CASES.append(
        (Capability.PRIVILEGED, trainer(securityContext=context), f"containers[trainer].securityContext.{field}")
    )
    CASES.append(
        (Capability.PRIVILEGED, sidecar(securityContext=context), f"initContainers[side].securityContext.{field}")
    )


@pytest.mark.parametrize(("capability", "pod", "field"), CASES)
def test_a_right_is_refused_by_field_value_and_way_out(capability: Capability, pod: dict[str, Any], field: str) -> None:
    """The right is refused where all others are allowed, and let through where it alone is allowed."""
    without = tuple(other for other in ALL if other is not capability)
    problems = refused(pod, allows=without)
    assert any(problem.startswith(f"spec.template.spec.{field}") for problem in problems), problems
    assert all(f"add `{capability}` to the operator's setting `templateAllows`" in problem for problem in problems)
    assert refused(pod, allows=(capability,)) == ()


def test_every_capability_has_a_case() -> None:
    assert {capability for capability, _, _ in CASES} == set(Capability)


def test_template_defaults_forbid_the_machine() -> None:
    """By default the machine is off limits, and a service account is not."""
    off = {capability for capability, pod, _ in CASES if refused(pod, allows=DEFAULT_ALLOWED)}
    assert off == {
        Capability.HOST_PATH,
        Capability.HOST_NETWORK,
        Capability.HOST_PROCESSES,
        Capability.PRIVILEGED,
        Capability.NODE_NAME,
    }


def test_an_annotation_that_takes_apparmor_away_is_found() -> None:
    name = "container.apparmor.security.beta.kubernetes.io/trainer"
    (problem,) = refused({}, metadata={"annotations": {name: "unconfined"}})
    assert problem.startswith(f"spec.template.metadata.annotations[{name}]: unconfined")


@pytest.mark.parametrize(
    "pod",
    [
        {},
        {"nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}], "shareProcessNamespace": True},
        {"securityContext": {"fsGroup": 5, "runAsUser": 1000, "sysctls": [{"name": "net.ipv4.tcp_syncookies"}]}},
        volume(ephemeral={}, configMap=None),
        trainer(securityContext={"capabilities": {"add": ["NET_BIND_SERVICE"]}, "readOnlyRootFilesystem": False}),
        trainer(securityContext={"allowPrivilegeEscalation": None, "capabilities": None}),
        sidecar(),
        {"hostNetwork": False, "hostPID": "nonsense", "securityContext": {"sysctls": "nonsense"}},
    ],
)
def test_what_stays_within_the_pod_is_free(pod: dict[str, Any]) -> None:
    assert refused(pod) == ()


@pytest.mark.parametrize("halves", [{"spec": None}, {"metadata": None}])
def test_half_a_template_that_is_null_removes_nothing(halves: dict[str, Any]) -> None:
    asked = FineTuneJob.parse({**(body := load("job-local.yaml")), "spec": {**body["spec"], "template": halves}})
    settings = PlanSettings(trainer_image="trainer")
    assert template_off_limits(asked, settings) == ()
    assert train_job(asked, settings, 1) == train_job(FineTuneJob.parse(body), settings, 1)


def pod_of(job: FineTuneJob, **settings: Any) -> dict[str, Any]:
    made: dict[str, Any] = train_job(job, PlanSettings(trainer_image="trainer", **settings), 1)["spec"]["template"][
        "spec"
    ]
    return made


def test_a_sidecar_that_says_nothing_is_as_secured_as_the_trainer() -> None:
    quiet = job({**sidecar(), **trainer(securityContext={"allowPrivilegeEscalation": None})})
    pod = pod_of(quiet)
    for container in (*pod["containers"], *pod["initContainers"]):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "securityContext" not in pod_of(quiet, template_allows=ALL)["initContainers"][0], (
        "left to who may do anything"
    )


# --- the administrator's own template --------------------------------------------------------------------------------

ADMINS = {
    "spec": {
        "hostNetwork": True,
        "hostUsers": False,
        "runtimeClassName": "gvisor",
        "serviceAccountName": "trainer",
        "volumes": [
            {"name": "models", "hostPath": {"path": "/models"}},
            {"name": "scripts", "configMap": {"name": "scripts"}},
        ],
        "containers": [
            {
                "name": "trainer",
                "securityContext": {"capabilities": {"add": ["IPC_LOCK"]}},
                "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
            }
        ],
        "initContainers": [
            {
                "name": "tune",
                "image": "admins",
                "securityContext": {"privileged": True, "runAsUser": 0},
                "volumeMounts": [{"name": "scripts", "mountPath": "/scripts"}],
            },
            {"name": "fetch", "image": "admins"},
        ],
    }
}


def test_the_administrators_part_is_never_refused() -> None:
    assert refused({"nodeSelector": {"a": "b"}}, defaults=ADMINS) == ()
    assert refused(trainer(env=[{"name": "A", "value": "1"}]), defaults=ADMINS) == ()
    assert refused({"initContainers": [{"name": "fetch", "env": []}]}, defaults=ADMINS) == ()


@pytest.mark.parametrize(
    ("pod", "start"),
    [
        ({"hostUsers": None}, "spec.template.spec.hostUsers: true"),
        ({"runtimeClassName": None}, "spec.template.spec.runtimeClassName: the default"),
        ({"serviceAccountName": "another"}, "spec.template.spec.serviceAccountName: another"),
        (volume(hostPath={"path": "/models"}), "spec.template.spec.volumes[v].hostPath"),
        ({"volumes": [{"name": "models", "hostPath": {"path": "/"}}]}, "spec.template.spec.volumes[models].hostPath"),
        (
            trainer(volumeMounts=[{"name": "models", "mountPath": "/models", "readOnly": False}]),
            "spec.template.spec.containers[trainer].volumeMounts[/models]",
        ),
        (
            sidecar(volumeMounts=[{"name": "models", "mountPath": "/m", "readOnly": True}]),
            "spec.template.spec.initContainers[side].volumeMounts[/m]",
        ),
        (
            {"initContainers": [{"name": "tune", "image": "mine"}]},
            "spec.template.spec.initContainers[tune]: is the admin",
        ),
        (
            {"volumes": [{"name": "scripts", "configMap": {"name": "mine"}}]},
            "spec.template.spec.initContainers[tune]: is the administrator's",
        ),
    ],
)
def test_a_job_can_neither_widen_nor_borrow_what_the_administrator_gives(pod: dict[str, Any], start: str) -> None:
    (problem,) = refused(pod, defaults=ADMINS)
    assert problem.startswith(start)


def test_spec_volume_under_privileged_container_is_refused() -> None:
    """A volume of the spec takes no place under an administrator's privileged container."""
    volumes = [{"name": "scripts", "mountPath": "/mine", "claimName": "mine"}]
    (problem,) = refused({}, defaults=ADMINS, volumes=volumes)
    assert problem.startswith("spec.template.spec.initContainers[tune]: is the administrator's")
