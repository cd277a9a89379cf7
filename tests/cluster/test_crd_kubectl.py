"""FineTuneJob as kubectl shows it: columns, explain, and what it says of a misspelt field."""

import json
from typing import Any

import pytest
import yaml

from finetune_operator.api import crd
from finetune_operator.api.structural import Schema
from tests.support.cluster.client import Client
from tests.support.spec_cases import manifest

STATUS: dict[str, Any] = {
    "phase": "Running",
    "summary": {
        "nodes": "2/2",
        "steps": "120/375",
        "loss": "0.6132",
        "eta": "41s",
        "restarts": "1",
        "dataset": "yelp_review_full",
    },
    "resolved": {"precision": "fp16", "image": "example.com/trainer@sha256:12"},
}


def create(client: Client, namespace: str, *args: str, **patch: Any) -> Any:
    body = json.dumps(manifest(patch))
    return client.kubectl(*(args or ("create",)), f"--namespace={namespace}", "-f", "-", stdin=body, check=False)


def test_columns_tell_the_story(control_plane: Client, namespace: str) -> None:
    create(control_plane, namespace)
    patch = ("patch", "ftj", "reviews", "--subresource=status", "--type=merge", f"--namespace={namespace}")
    control_plane.kubectl(*patch, "-p", json.dumps({"status": STATUS}))

    header, row = control_plane.kubectl("get", "ftj", f"--namespace={namespace}").stdout.splitlines()
    wide_header, wide = control_plane.kubectl(
        "get", "ftj", f"--namespace={namespace}", "-o", "wide"
    ).stdout.splitlines()

    assert header.split() == ["NAME", "PHASE", "REASON", "NODES", "STEPS", "LOSS", "LEFT", "RESTARTS", "AGE"]
    assert row.split()[:-1] == ["reviews", "Running", "2/2", "120/375", "0.6132", "41s", "1"]
    assert wide_header.split()[-5:] == ["MODEL", "DATASET", "PRECISION", "IMAGE", "PUBLISHED"]
    assert wide.split()[-4:] == [
        "google-bert/bert-base-cased",
        "yelp_review_full",
        "fp16",
        "example.com/trainer@sha256:12",
    ]


def test_is_among_all(control_plane: Client, namespace: str) -> None:
    create(control_plane, namespace)

    assert "finetunejob.finetune.dev/reviews" in control_plane.kubectl("get", "all", f"--namespace={namespace}").stdout


@pytest.mark.parametrize("command", [("create",), ("apply",), ("apply", "--server-side")], ids=" ".join)
def test_a_misspelt_argument_is_refused(control_plane: Client, namespace: str, command: tuple[str, ...]) -> None:
    refusal = create(control_plane, namespace, *command, trainingArguments={"learnin_rate": 5e-5}).stderr

    assert "spec.trainingArguments.learnin_rate" in refusal
    assert "unknown field" in refusal or "field not declared in schema" in refusal


def test_no_without_quotes_is_refused_and_explained(control_plane: Client, namespace: str) -> None:
    text = yaml.safe_dump(manifest({"trainingArguments": {"eval_strategy": "xx"}})).replace("xx", "no")
    done = control_plane.kubectl("apply", f"--namespace={namespace}", "-f", "-", stdin=text, check=False)
    explained = control_plane.kubectl("explain", "finetunejob.spec.trainingArguments.eval_strategy").stdout

    assert 'spec.trainingArguments.eval_strategy in body must be of type string: "boolean"' in done.stderr
    assert 'Quote "no"' in explained


def test_explain_describes_every_field_of_spec(control_plane: Client) -> None:
    explained = control_plane.kubectl("explain", "finetunejob.spec", "--recursive").stdout
    undescribed = list(_undescribed(crd.schema()["properties"]["spec"], "spec"))

    assert undescribed == []
    for name in ("learning_rate", "processesPerNode", "tokenSecretRef", "claimName"):
        assert f"{name}\t<" in explained
    assert "-required-" in next(line for line in explained.splitlines() if line.strip().startswith("storage\t"))


def test_explain_reads_like_documentation(control_plane: Client) -> None:
    nodes = " ".join(control_plane.kubectl("explain", "finetunejob.spec.nodes").stdout.split())

    assert "pods that train together as one world. Over 1, the storage must be ReadWriteMany. Default: 1." in nodes


def test_no_default_is_written_to_spec(control_plane: Client, namespace: str) -> None:
    """GitOps tools would see a written default as drift."""
    create(control_plane, namespace)

    assert control_plane.get("ftj", "reviews", f"--namespace={namespace}")["spec"] == manifest({})["spec"]


def _undescribed(schema: Schema, path: str) -> Any:
    for name, child in schema.get("properties", {}).items():
        if not child.get("description", "").strip():
            yield f"{path}.{name}"
        yield from _undescribed(child, f"{path}.{name}")
        yield from _undescribed(child.get("items", {}), f"{path}.{name}[]")
