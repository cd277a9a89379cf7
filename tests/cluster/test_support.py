"""The control plane that the cluster tier stands on answers, counts requests by user, and knows our resource."""

from pathlib import Path

from tests.support.cluster.control_plane import ControlPlane


def test_requests_are_counted_by_user(audited: ControlPlane, namespace: str, tmp_path: Path) -> None:
    audited.kubectl("create", "serviceaccount", "someone", f"--namespace={namespace}")
    kubeconfig = audited.kubeconfig_of("someone", namespace, tmp_path)
    refused = audited.kubectl(f"--kubeconfig={kubeconfig}", "get", "pods", check=False)
    events = audited.audit_events(f"system:serviceaccount:{namespace}:someone")

    assert "forbidden" in refused.stderr.lower()
    assert [(event["verb"], event["objectRef"]["resource"]) for event in events] == [("list", "pods")]


def test_the_resource_is_served(control_plane: ControlPlane) -> None:
    explained = control_plane.kubectl("explain", "finetunejob.spec").stdout

    assert "trainingArguments" in explained
