"""The chart before it meets a cluster: what it renders from which values, and what it says."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import helm_python
import pytest
import yaml

from finetune_operator.api import crd
from finetune_operator.settings import OperatorSettings
from tests.support import helm
from tests.support.api import Manifest
from tests.support.cluster.client import REPOSITORY, Client
from tests.support.jobs import eventually

PREFIX = "FINETUNE_OPERATOR_"
EVERYTHING: Manifest = {
    "fullnameOverride": "trainer",
    "image": {"repository": "registry.example:5000/operator", "digest": "sha256:" + "a" * 64},
    "imagePullSecrets": [{"name": "registry"}],
    "trainer": {"image": {"repository": "registry.example/trainer", "tag": "7"}},
    "watchNamespaces": ["team-a", "team-b"],
    "crds": {"keep": False},
    "rbac": {"aggregate": False},
    "serviceAccount": {"name": "operator", "annotations": {"role": "x"}},
    "jobs": {
        "podTemplate": {
            "metadata": {"labels": {"team": "ml"}},
            "spec": {
                "nodeSelector": {"pool": "gpu"},
                "tolerations": [{"key": "gpu", "operator": "Exists"}],
                "containers": [{"name": "trainer", "env": [{"name": "HTTPS_PROXY", "value": "proxy:3128"}]}],
            },
        },
        "templateAllows": ["hostPath", "serviceAccount"],
        "gracePeriodSeconds": 120,
        "lostNodeSeconds": 90,
        "acceleratorResources": ["example.com/npu"],
        "acceleratorMemory": {"example.com/npu": "80Gi"},
    },
    "progress": {"intervalSeconds": 2.5, "access": "proxy"},
    "replicas": 2,
    "leaseSeconds": 30,
    "concurrency": 4,
    "resyncSeconds": 30,
    "podDiagnosisSeconds": 7,
    "log": {"level": "debug", "format": "text"},
    "metrics": {"port": 9999},
    "podMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "prometheus"}},
    "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"pool": "system"},
    "tolerations": [{"key": "system", "operator": "Exists", "effect": "NoSchedule"}],
    "lostNodeSeconds": 40,
    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "topologySpreadConstraints": [
        {
            "maxSkew": 2,
            "topologyKey": "example.com/rack",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"team": "platform"}},
        },
    ],
    "podDisruptionBudget": {"maxUnavailable": "50%"},
    "podAnnotations": {"prometheus.io/scrape": "true"},
    "podLabels": {"team": "platform"},
}
"""Every group of values, with something other than its default in it."""


def kinds(manifests: list[Manifest]) -> dict[str, int]:
    names = [manifest["kind"] for manifest in manifests]
    return {kind: names.count(kind) for kind in sorted(set(names))}


def of_kind(kind: str, manifests: list[Manifest]) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def deployment(values: Manifest | None = None) -> Manifest:
    (manifest,) = of_kind("Deployment", helm.render(values))
    return manifest


def lost_node(seconds: int) -> list[Manifest]:
    return [
        {
            "key": f"node.kubernetes.io/{taint}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": seconds,
        }
        for taint in ("not-ready", "unreachable")
    ]


FIELDS = {"metadata.name": "pod-1"}
"""Fields of a pod that its variables are read from."""


def settings(values: Manifest, monkeypatch: pytest.MonkeyPatch) -> OperatorSettings:
    """Settings that an operator reads when it was installed with these values."""
    (container,) = deployment(values)["spec"]["template"]["spec"]["containers"]
    for variable in container["env"]:
        field = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        monkeypatch.setenv(variable["name"], FIELDS[field] if field else variable["value"])
    return OperatorSettings()


# --- what it renders ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [None, EVERYTHING], ids=["defaults", "everything"])
def test_lint_has_no_objection(values: Manifest | None) -> None:
    assert helm.lint(values) == []


def test_the_objects_of_an_installation() -> None:
    assert kinds(helm.render()) == {
        "ClusterRole": 3,
        "ClusterRoleBinding": 1,
        "CustomResourceDefinition": 1,
        "Deployment": 1,
        "Lease": 1,
        "Role": 1,
        "RoleBinding": 1,
        "ServiceAccount": 1,
    }


@pytest.mark.parametrize(
    ("values", "more", "less"),
    [
        ({"crds": {"enabled": False}}, set(), {"CustomResourceDefinition"}),
        ({"rbac": {"create": False}}, set(), {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}),
        ({"serviceAccount": {"create": False}}, set(), {"ServiceAccount"}),
        ({"podMonitor": {"enabled": True}}, {"PodMonitor"}, set()),
        ({"replicas": 2}, {"PodDisruptionBudget"}, set()),
        ({"replicas": 2, "podDisruptionBudget": {"enabled": False}}, set(), set()),
        (
            {"watchNamespaces": ["a"], "rbac": {"aggregate": False}},
            set(),
            {"ClusterRole", "ClusterRoleBinding"},
        ),
    ],
    ids=["no-crds", "no-rbac", "no-account", "monitor", "two", "two-no-budget", "namespaces"],
)
def test_values_that_add_or_remove_objects(values: Manifest, more: set[str], less: set[str]) -> None:
    assert set(kinds(helm.render(values))) == (set(kinds(helm.render())) | more) - less


def test_everything_that_can_be_set_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    pod = deployment(EVERYTHING)["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    arrived = settings(EVERYTHING, monkeypatch)

    assert container["image"] == "registry.example:5000/operator@sha256:" + "a" * 64
    assert arrived.trainer_image == "registry.example/trainer:7"
    assert container["resources"] == EVERYTHING["resources"]
    assert pod["spec"]["serviceAccountName"] == "operator"
    assert pod["metadata"]["annotations"] == EVERYTHING["podAnnotations"]
    assert pod["metadata"]["labels"]["team"] == "platform"
    same = ("imagePullSecrets", "priorityClassName", "nodeSelector", "affinity", "topologySpreadConstraints")
    for name in same:
        assert pod["spec"][name] == EVERYTHING[name]
    assert pod["spec"]["tolerations"] == [*EVERYTHING["tolerations"], *lost_node(40)]
    (budget,) = of_kind("PodDisruptionBudget", helm.render(EVERYTHING))
    assert budget["spec"]["maxUnavailable"] == "50%"
    assert arrived.namespaces == ("team-a", "team-b")
    assert arrived.plan().pod_template == EVERYTHING["jobs"]["podTemplate"]
    assert arrived.plan().template_allows == ("hostPath", "serviceAccount")
    assert arrived.plan().accelerator_resources == ("example.com/npu",)
    assert arrived.plan().accelerator_memory_bytes == {"example.com/npu": 80 << 30}
    assert (arrived.grace_period_seconds, arrived.lost_node_seconds) == (120, 90)
    assert arrived.progress_interval_seconds == 2.5
    assert (arrived.progress_access, arrived.concurrency, arrived.resync_seconds) == ("proxy", 4, 30)
    assert (arrived.pod_diagnosis_seconds, arrived.metrics_port) == (7, 9999)
    assert arrived.identity == FIELDS["metadata.name"]
    assert (arrived.lease, arrived.lease_seconds) == (f"{helm.SYSTEM_NAMESPACE}/trainer", 30)
    assert deployment(EVERYTHING)["spec"]["replicas"] == 2
    assert (arrived.log_level, arrived.log_format) == ("debug", "text")


def test_one_operator_leaves_a_lost_node_soon_and_asks_for_nothing_else() -> None:
    pod = deployment()["spec"]["template"]["spec"]
    assert pod["tolerations"] == lost_node(15)
    assert not {"affinity", "topologySpreadConstraints"} & pod.keys()


def test_a_toleration_of_ones_own_takes_the_place_of_that_for_a_lost_node() -> None:
    own = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}
    assert deployment({"tolerations": [own]})["spec"]["template"]["spec"]["tolerations"] == [own, lost_node(15)[0]]


def test_operators_are_spread_over_nodes_and_zones() -> None:
    """Several operators fall together with no node, no zone and no drain."""
    affinity: Manifest = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    made = deployment({"replicas": 2, "affinity": affinity})
    pod, selector = made["spec"]["template"]["spec"], made["spec"]["selector"]
    assert pod["affinity"].keys() == {"nodeAffinity", "podAntiAffinity"}
    (preferred,) = pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preferred["podAffinityTerm"] == {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}
    (zones,) = pod["topologySpreadConstraints"]
    assert (zones["topologyKey"], zones["labelSelector"]) == ("topology.kubernetes.io/zone", selector)
    (budget,) = of_kind("PodDisruptionBudget", helm.render({"replicas": 2}))
    assert (budget["spec"]["selector"], budget["spec"]["maxUnavailable"]) == (selector, 1)


def test_the_operators_defaults_are_the_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings whose default is another one outside of a cluster are left out."""
    without = {"trainer_image", "progress_access", "lease", "identity"}
    by_hand = OperatorSettings().model_dump(exclude=without)
    assert settings({}, monkeypatch).model_dump(exclude=without) == by_hand


def test_every_setting_of_the_operator_can_be_set() -> None:
    (container,) = deployment()["spec"]["template"]["spec"]["containers"]
    settable = {variable["name"].removeprefix(PREFIX).lower() for variable in container["env"]}
    assert settable == set(OperatorSettings.model_fields) - {"kubeconfig", "metrics_host"}


def test_versions_are_one() -> None:
    chart = yaml.safe_load((helm.CHART / "Chart.yaml").read_text())
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert (chart["version"], chart["appVersion"]) == (project["version"], project["version"])


def test_a_packaged_chart_is_complete(tmp_path: Path) -> None:
    archive = Path(helm_python.package(helm.CHART, destination=tmp_path))
    assert helm.render(EVERYTHING, chart=archive) == helm.render(EVERYTHING)
    with helm_python.Chart.load(archive) as packaged:
        assert {"README.md"} <= {file["name"] for file in packaged.files}


# --- the definition ----------------------------------------------------------------------------------------------


def test_the_definition_is_that_of_crds() -> None:
    (definition,) = of_kind("CustomResourceDefinition", helm.render())
    assert definition["spec"] == crd.manifest()["spec"]
    assert definition["metadata"]["name"] == helm.DEFINITION
    assert definition["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_a_definition_that_is_not_to_be_kept_is_not_marked_so() -> None:
    (definition,) = of_kind("CustomResourceDefinition", helm.render({"crds": {"keep": False}}))
    assert "annotations" not in definition["metadata"]


def test_chart_and_readme_are_what_the_generators_write() -> None:
    for script in ("generate_crds.py", "generate_chart.py"):
        checked = subprocess.run([sys.executable, REPOSITORY / "scripts" / script, "--check"], check=False)
        assert checked.returncode == 0, "run `make generate`"


# --- rights ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["cluster", "namespaces"])
def test_roles_name_no_wildcard_and_no_secret(values: Manifest) -> None:
    rules = [rule for manifest in helm.rights(values) for rule in manifest.get("rules", ())]
    granted = {resource for rule in rules for resource in rule["resources"]}
    assert {"finetunejobs", "jobs"} <= granted
    assert not granted & {"secrets", "*", "pods/exec", "pods/log"}
    assert all("*" not in rule["verbs"] + rule["apiGroups"] for rule in rules)


def test_the_way_through_the_api_server_is_granted_where_it_is_taken() -> None:
    def may_proxy(values: Manifest) -> bool:
        return "pods/proxy" in json.dumps(helm.rights(values))

    assert not may_proxy({})
    assert may_proxy({"progress": {"access": "proxy"}})


def test_a_list_of_namespaces_grants_nothing_beyond_them() -> None:
    made = helm.rights(EVERYTHING)
    assert kinds(made) == {"Role": 3, "RoleBinding": 3, "ServiceAccount": 1}
    served = {role["metadata"]["namespace"] for role in of_kind("Role", made)} - {helm.SYSTEM_NAMESPACE}
    assert served == {"team-a", "team-b"}
    for binding in of_kind("RoleBinding", made):
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": "operator", "namespace": helm.SYSTEM_NAMESPACE}
        ]


# --- what the administrator and the API server are told --------------------------------------------------------------


def test_notes_say_what_to_do_next() -> None:
    assert "kubectl rollout status deployment/finetune-operator --namespace finetune-system" in helm.notes()
    assert "kubectl apply -f job.yaml" in helm.notes()
    assert "jobs may ask for: networkVolumes, serviceAccount, priorityClass, runtimeClass (" in helm.notes()
    assert "jobs may ask for: nothing beyond their own pods (" in helm.notes({"jobs": {"templateAllows": []}})
    assert "serves the namespaces team-a, team-b" in helm.notes({"watchNamespaces": ["team-a", "team-b"]})
    assert "waits until somebody has applied it" in helm.notes({"crds": {"enabled": False}})
    assert "deletes the FineTuneJob definition" in helm.notes({"crds": {"keep": False}})


@pytest.mark.parametrize("values", [{}, {"replicas": 2}, EVERYTHING], ids=["defaults", "two", "everything"])
def test_every_object_is_accepted(control_plane: Client, values: Manifest) -> None:
    """The server knows every field, and warns of what the restricted Pod Security Standard would refuse."""
    system = {**helm.SYSTEM["metadata"]["labels"], "pod-security.kubernetes.io/warn": "restricted"}
    control_plane.apply({**helm.SYSTEM, "metadata": {**helm.SYSTEM["metadata"], "labels": system}})
    for name in values.get("watchNamespaces", ()):
        control_plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    # The definition of PodMonitor is not on this control plane.
    made = [manifest for manifest in helm.render(values) if manifest["kind"] != "PodMonitor"]
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
    applied = control_plane.kubectl(
        *("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-"),
        stdin=document,
    )
    assert "Warning" not in applied.stderr


def test_restricted_pod_security_lets_the_operators_pod_in(control_plane: Client, operator_kubeconfig: Path) -> None:
    control_plane.apply(deployment(), namespace=helm.SYSTEM_NAMESPACE)
    in_system = f"--namespace={helm.SYSTEM_NAMESPACE}"
    pods = eventually("the operator's pod", lambda: control_plane.get("pods", in_system)["items"])
    control_plane.kubectl("delete", "deployment", helm.RELEASE, in_system)
    assert [pod["spec"]["serviceAccountName"] for pod in pods] == [helm.RELEASE]
