"""Every mistake that the API server refuses, asked of a real one; `tests/unit/cli` asks `finetune validate` the same."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from finetune_operator.api import crd
from finetune_operator.cli.validate import validate
from tests.support.api import Api, ApiFailed, Manifest
from tests.support.bad_input.api import REFUSED
from tests.support.bad_input.row import BadInput
from tests.support.cluster.client import Client
from tests.support.jobs import eventually, finetune_job, wait_for_phase
from tests.support.kubelet import PlayedKubelet
from tests.support.operator import Operator
from tests.support.spec_cases import manifest

ARGUMENTS: dict[str, Any] = crd.schema()["properties"]["spec"]["properties"]["trainingArguments"]["properties"]


@pytest.fixture(scope="module")
def namespace(control_plane: Client) -> Iterator[str]:
    """The namespace of all these tests: nothing of a refused job is left in it."""
    name = f"bad-{uuid.uuid4().hex[:8]}"
    control_plane.create_namespace(name)
    yield name
    control_plane.delete_namespace(name)


def create(api: Api, job: Manifest) -> str:
    """Create a job as `kubectl apply` does, which asks the server to be strict. Return what it said against the job."""
    return _said(api, "POST", f"{api.path('FineTuneJob')}?fieldValidation=Strict", job, "application/json")


def apply_on_the_server(api: Api, job: Manifest) -> str:
    """Apply a job as `kubectl apply --server-side` and GitOps tools do. Return what the server said against it."""
    path = f"{api.path('FineTuneJob', job['metadata']['name'])}?fieldManager=somebody"
    return _said(api, "PATCH", path, job, "application/apply-patch+yaml")


def _said(api: Api, method: str, path: str, job: Manifest, content_type: str) -> str:
    try:
        api.request(method, path, job, content_type)
    except ApiFailed as error:
        return str(json.loads(str(error).partition(": ")[2])["message"])
    return ""


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.name)
def test_the_api_server_refuses(row: BadInput, api: Api) -> None:
    job = manifest(dict(row.spec), dict(row.metadata))

    refusal = create(api, job)

    assert row.reason in refusal, "the field"
    assert row.message in refusal
    assert apply_on_the_server(api, job) != ""
    assert api.get("FineTuneJob", job["metadata"]["name"]) is None


def test_every_argument_misspelt_by_a_letter(api: Api) -> None:
    """A name with a letter less, one more, or two swapped is refused, and `finetune validate` suggests the right one."""
    wrong = {spelling: name for name in ARGUMENTS for spelling in _misspelt(name)}
    assert len(wrong) > 2.5 * len(ARGUMENTS)
    job = manifest({"trainingArguments": dict.fromkeys(wrong, 1)})

    refusal = create(api, job)
    suggested = {problem.field.rpartition(".")[2]: problem.message for problem in validate(job)}

    assert [spelling for spelling in wrong if f'unknown field "spec.trainingArguments.{spelling}"' not in refusal] == []
    assert [spelling for spelling, name in wrong.items() if name not in _names_in(suggested[spelling])] == []


def _misspelt(name: str) -> Iterator[str]:
    middle = len(name) // 2
    swapped = name[: middle - 1] + name[middle] + name[middle - 1] + name[middle + 1 :]
    for spelling in (name[:middle] + name[middle + 1 :], name[:middle] + name[middle] + name[middle:], swapped):
        if spelling not in ARGUMENTS:
            yield spelling


def _names_in(suggestion: str) -> list[str]:
    return suggestion.removeprefix("did you mean ").removesuffix("?").split(" or ")


def test_server_side_apply_refuses_each_misspelt_argument(api: Api) -> None:
    """The server names one argument at a time. A plain create that asks for no strictness is told nothing."""
    for name in list(ARGUMENTS)[::8]:
        spelling = next(_misspelt(name))
        refusal = apply_on_the_server(api, manifest({"trainingArguments": {spelling: 1}}))
        assert f".spec.trainingArguments.{spelling}: field not declared in schema" in refusal


def test_a_good_job_in_the_same_namespace_succeeds(api: Api, operator: Operator) -> None:
    assert api.list("FineTuneJob") == []
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}
    api.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "shared"}, "spec": claim})
    api.create(finetune_job("good"))
    with PlayedKubelet(api, "good") as kubelet:
        eventually("two pods", lambda: len(kubelet.pods(1)) == 2)
        kubelet.report(1, step=1)
        kubelet.run(1)
        wait_for_phase(api, "Running", "good")
        kubelet.succeed(1, step=100)
        wait_for_phase(api, "Succeeded", "good")
