"""What may change in the life of a job, as the API server decides it: spec while training, status always."""

import json
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from finetune_operator.api import crd
from finetune_operator.api.rules.transitions import IMMUTABLE
from tests.support.cluster.client import Client
from tests.support.spec_cases import manifest
from tests.support.spec_changes import ALWAYS, CHANGES


class Job:
    """A job on the API server, as its user and as the operator."""

    def __init__(self, client: Client, namespace: str, name: str) -> None:
        self.client, self.namespace, self.name = client, namespace, name

    def create(self, patch: dict[str, Any]) -> None:
        body = manifest(patch, {"name": self.name})
        self.client.kubectl("create", f"--namespace={self.namespace}", "-f", "-", stdin=json.dumps(body))

    def set_status(self, status: dict[str, Any], *, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self._patch({"status": status}, "--subresource=status", check=check)

    def change(self, spec: dict[str, Any], *args: str) -> str:
        """Try a change. Return what the API server says against it, empty where it accepts it."""
        return self._patch({"spec": spec}, *args, check=False).stderr

    def _patch(self, body: dict[str, Any], *args: str, check: bool) -> subprocess.CompletedProcess[str]:
        target = ("patch", "ftj", self.name, f"--namespace={self.namespace}", "--type=merge")
        return self.client.kubectl(*target, *args, "-p", json.dumps(body), check=check)


@pytest.fixture(scope="module")
def namespace(control_plane: Client) -> Iterator[str]:
    """The namespace of all tests here: jobs have names of their own."""
    name = f"life-{uuid.uuid4().hex[:8]}"
    control_plane.create_namespace(name)
    yield name
    control_plane.delete_namespace(name)


def _new_job(client: Client, namespace: str, patch: dict[str, Any]) -> Job:
    job = Job(client, namespace, f"job-{uuid.uuid4().hex[:8]}")
    job.create(patch)
    return job


@pytest.fixture
def job(control_plane: Client, namespace: str) -> Job:
    """A job that has not begun to train."""
    return _new_job(control_plane, namespace, {"retry": 1, "template": {"spec": {"nodeSelector": {"zone": "b"}}}})


@pytest.fixture(scope="module")
def training(control_plane: Client, namespace: str) -> Job:
    """A job whose first attempt was made. Tests change it in dry runs alone."""
    job = _new_job(control_plane, namespace, {"retry": 1, "template": {"spec": {"nodeSelector": {"zone": "b"}}}})
    job.set_status({"phase": "Running", "attempt": 1})
    return job


def test_before_training_everything_may_change(job: Job) -> None:
    same = {
        "storage": {"size": None, "claimName": "x"},
        "dataset": {"name": "imdb"},
        "task": "text-classification",
        "script": None,
    }

    assert job.change({"task": CHANGES["task"]}, "--dry-run=server") == ""
    assert job.change(CHANGES | ALWAYS | same) == ""


@pytest.mark.parametrize("field", CHANGES)
def test_a_field_is_fixed_while_training(training: Job, field: str) -> None:
    next_step = IMMUTABLE[field].next_step
    change = {field: CHANGES[field]} if field != "storage" else {"storage": {"size": None, "claimName": "other"}}

    refusal = training.change(change, "--dry-run=server")

    assert f"spec.{field}: Forbidden: is fixed once training has started: {next_step}" in refusal


@pytest.mark.parametrize("field", ["template", "trainingArguments", "env", "resources"])
def test_a_field_cannot_be_taken_away_while_training(control_plane: Client, namespace: str, field: str) -> None:
    job = _new_job(control_plane, namespace, {field: CHANGES[field]})
    job.set_status({"attempt": 1})

    assert f"spec.{field}: Forbidden: is fixed once training has started" in job.change(
        {field: None}, "--dry-run=server"
    )


@pytest.mark.parametrize("fields", [("hub",), ("hub", "publish")])
def test_what_only_publishing_depends_on_may_change_with_retry(
    job: Job, training: Job, fields: tuple[str, ...]
) -> None:
    edit = {field: CHANGES[field] for field in fields}
    published = {"repoId": "me/x", "url": "https://huggingface.co/me/x", "commit": "1" * 40}
    job.set_status({"attempt": 1, "model": {"claimName": "reviews", "path": "model", "hub": published}})

    assert "raise retry in the same edit" in training.change(edit, "--dry-run=server")
    assert training.change({**edit, "retry": 2}, "--dry-run=server") == ""
    assert "is fixed once training has started" in job.change({**edit, "retry": 2}, "--dry-run=server")


@pytest.mark.parametrize("field", ALWAYS)
def test_some_fields_may_change_while_training(training: Job, field: str) -> None:
    assert training.change({field: ALWAYS[field]}, "--dry-run=server") == ""


@pytest.mark.parametrize("lower", [0, None])
def test_retry_only_rises(job: Job, lower: int | None) -> None:
    assert "spec.retry: Invalid value" in (refusal := job.change({"retry": lower}, "--dry-run=server"))
    assert "may only rise: give the number of before, or a higher one" in refusal


@pytest.mark.parametrize("mode", ["ReadWriteOnce", "ReadWriteOncePod"])
def test_nodes_are_not_raised_on_a_claim_of_one_node(job: Job, mode: str) -> None:
    job.set_status({"claim": {"name": "reviews", "accessMode": mode}})

    refusal = job.change({"nodes": 2}, "--dry-run=server")

    assert f'spec.nodes: Forbidden: "{mode}" is the claim\'s access mode, fixed once made' in refusal
    assert job.change({"nodes": 1}, "--dry-run=server") == ""


def test_nodes_are_raised_on_a_shared_claim_before_training(job: Job) -> None:
    job.set_status({"claim": {"name": "reviews", "accessMode": "ReadWriteMany"}})

    assert job.change({"nodes": 2}) == ""


def test_a_claim_that_was_made_keeps_its_size(job: Job) -> None:
    job.set_status({"claim": {"name": "reviews", "accessMode": "ReadWriteOnce"}})

    assert "spec.storage: Forbidden: cannot change once its claim is there" in job.change({"storage": {"size": "20Gi"}})
    assert job.change({"storage": {"size": None, "claimName": "other"}}) == ""


@pytest.fixture
def relaxed(control_plane: Client, namespace: str) -> Job:
    """A job that breaks every kind of rule: it came before the rules did."""
    definition = crd.manifest()
    _without_rules(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    job = Job(control_plane, namespace, f"7b.{uuid.uuid4().hex[:8]}")
    try:
        control_plane.apply(definition)
        job.create(
            {
                "nodes": 2,
                "storage": {"size": "nothing", "claimName": "x", "accessMode": "ReadWriteOnce"},
                "trainingArguments": {"fp16": True, "bf16": True},
                "env": [{"name": "RANK", "value": "1"}],
            }
        )
    finally:
        control_plane.install_crds()
    return job


def _without_rules(schema: Any) -> None:
    if isinstance(schema, dict):
        schema.pop("x-kubernetes-validations", None)
        for child in schema.values():
            _without_rules(child)


def test_status_is_written_on_an_object_that_breaks_newer_rules(relaxed: Job) -> None:
    assert relaxed.change({"env": [{"name": "RANK", "value": "2"}]}, "--dry-run=server") != ""

    relaxed.set_status({"phase": "Running", "attempt": 1, "claim": {"name": "x", "accessMode": "ReadWriteOnce"}})
    relaxed.set_status({"phase": "Failed", "attempt": 2})

    body = relaxed.client.get("ftj", relaxed.name, f"--namespace={relaxed.namespace}")
    assert body["status"]["phase"] == "Failed"
    assert body["spec"]["env"] == [{"name": "RANK", "value": "1"}]


def test_labels_are_written_on_an_object_that_breaks_newer_rules(relaxed: Job) -> None:
    done = relaxed.client.kubectl("label", "ftj", relaxed.name, f"--namespace={relaxed.namespace}", "team=nlp")

    assert "labeled" in done.stdout
