"""Mistakes that the API server refuses when the job is applied. The tests are in `tests/cluster`.

A row's `spec` differs from the job of `tests.support.spec_cases`, which has one case more for each rule, bound and enum of
the schema.
"""

from __future__ import annotations

import re

from finetune_operator.api.rules.transitions import IMMUTABLE
from tests.support.bad_input.api_arguments import ARGUMENTS, refused
from tests.support.bad_input.api_tasks import OF_DATA, OF_TASKS
from tests.support.bad_input.row import BadInput, SaidBy

_GPU = "nvidia.com/gpu"
_NAMES = "lower case letters, digits and hyphens, beginning with a letter and ending with a letter or digit"


def _named(name: str, what: str, value: str) -> BadInput:
    message = f'"{value}" must be at most 46 {_NAMES}'
    metadata = {"name": value}
    return BadInput(name, what, SaidBy.API_SERVER, message, "metadata.name", metadata=metadata, on_laptop=True)


SHAPE = (
    refused("no-task", "neither a task nor a script", "spec", "give exactly one of task", task=None),
    refused("unknown-task", "a task that there is not", "spec.task", "supported values", task="summarize"),
    refused("no-storage", "nowhere to write to", "spec.storage", "Required value", storage=None),
    refused("field-misspelt", "a misspelt field", "spec.volums", "unknown field", volums=[]),
    refused("later-field-queue", "a field of a later version: queue", "spec.queue", "unknown field", queue="a"),
    refused("argument-beside-spec", "an argument in spec", "spec.learning_rate", "unknown field", learning_rate=5e-5),
    refused("null-model", "no model", "spec.model", "is what a task works on: give model", model=None),
    refused(
        "dataset-of-both-kinds",
        "data from the Hub and from files",
        "spec.dataset",
        "give exactly one of name (a dataset on the Hub) and files (on a mounted volume, or at addresses of their own)",
        dataset={"name": "imdb", "files": {"train": ["/data/train.csv"]}},
    ),
    refused(
        "evaluation-without-files",
        "evaluations without data for them",
        "spec.trainingArguments.eval_strategy",
        "needs data to evaluate on: give dataset.files.validation",
        dataset={"files": {"train": ["/data/train.csv"]}},
        trainingArguments={"eval_strategy": "epoch"},
    ),
    refused(
        "model-name-malformed",
        "a malformed name of a model",
        "spec.model.name",
        '"me/bert/base" must be a model on the Hub (name or owner/name) or an absolute path',
        model={"name": "me/bert/base"},
    ),
    refused(
        "publish-repo-malformed",
        "a malformed name of the repository to publish to",
        "spec.publish.repoId",
        '"https://huggingface.co/me" is no name of a repository on the Hub: give owner/name or name',
        publish={"repoId": "https://huggingface.co/me"},
        hub={"tokenSecretRef": {"name": "hf", "key": "token"}},
    ),
    refused(
        "publish-without-token",
        "publishing without a token",
        "spec.publish",
        "needs a token that may write: name its Secret in hub.tokenSecretRef",
        publish={"repoId": "me/yelp-bert"},
    ),
    refused(
        "image-malformed",
        "a malformed name of the image",
        "spec.image",
        '"registry.example.com/Team/Trainer:v1" is no image name: write it as registry.example.com/team/trainer:tag',
        image="registry.example.com/Team/Trainer:v1",
    ),
)

SIZES = (
    refused("nodes-zero", "0 nodes", "spec.nodes", "should be greater than or equal to 1", nodes=0),
    refused("nodes-negative", "-2 nodes", "spec.nodes", "should be greater than or equal to 1", nodes=-2),
    refused("nodes-a-word", '"two" nodes', "spec.nodes", 'must be of type integer: "string"', nodes="two"),
    refused("processes-zero", "0 processes", "spec.processesPerNode", "greater than or equal to 1", processesPerNode=0),
    refused(
        "more-processes-than-accelerators",
        "more processes than accelerators",
        "spec.processesPerNode",
        '"3" is more ranks than accelerators: lower it, or raise the accelerators in resources.limits',
        processesPerNode=3,
        resources={"limits": {_GPU: 2}},
    ),
    refused(
        "half-an-accelerator",
        "half a GPU",
        "spec.resources.limits",
        '"nvidia.com/gpu: 500m" is no whole number: devices are given out whole',
        resources={"limits": {_GPU: "500m"}},
    ),
    refused(
        "half-an-accelerator-as-number",
        "half a GPU, as a number",
        "spec.resources.limits.nvidia.com/gpu",
        'must be of type integer,string: "number"',
        resources={"limits": {_GPU: 0.5}},
    ),
    refused(
        "accelerator-misspelt",
        "`nvidia.com/gpus`, which no machine has",
        "spec.resources.limits",
        '"nvidia.com/gpus" is no resource of any machine: did you mean nvidia.com/gpu?',
        resources={"limits": {"nvidia.com/gpus": 1}},
    ),
    refused(
        "accelerator-unusable",
        "a TPU, which the training program cannot compute on",
        "spec.resources.limits",
        '"google.com/tpu" is no device that tasks run on: ask for GPUs of NVIDIA or AMD, such as nvidia.com/gpu: 1',
        resources={"limits": {"google.com/tpu": 4}},
    ),
    refused(
        "several-parts-of-accelerators",
        "two parts of GPUs, as if they were two GPUs",
        "spec.resources.limits",
        '"nvidia.com/mig-1g.10gb: 2" is parts of devices, of which a pod computes on one: ask for 1, or for whole ones',
        resources={"limits": {"nvidia.com/mig-1g.10gb": 2}},
    ),
    refused(
        "resource-without-domain",
        "a device without its domain",
        "spec.resources.limits",
        '"gpu" is an unknown resource: give cpu, memory, ephemeral-storage, or a device with its domain',
        resources={"limits": {"gpu": 1}},
    ),
    refused(
        "request-over-limit",
        "a request over its limit",
        "spec.resources.requests",
        '"memory: 2Gi (limit 1Gi)" is over its limit: raise the limit or lower the request',
        resources={"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}},
    ),
    refused(
        "accelerator-only-requested",
        "an accelerator in requests alone",
        "spec.resources.requests",
        '"nvidia.com/gpu: 1" differs from the limits: a device has the same number in requests and limits',
        resources={"requests": {_GPU: 1}},
    ),
    refused(
        "quantity-a-word",
        'a quantity of "one"',
        "spec.resources.limits[memory]",
        '"one" must be a quantity, not below 0, such as 2, 500m or 16Gi',
        resources={"limits": {"memory": "one"}},
    ),
    refused(
        "storage-size-a-word",
        "a size that is no quantity",
        "spec.storage.size",
        '"50GB" must be a quantity above 0, such as 50Gi',
        storage={"size": "50GB"},
    ),
    refused(
        "claim-of-one-node",
        "a claim to make that one node can mount, for 2 nodes",
        "spec.storage.accessMode",
        '"ReadWriteOnce" must be ReadWriteMany where nodes is over 1: every node writes to the claim',
        nodes=2,
        storage={"size": "1Gi", "accessMode": "ReadWriteOnce"},
    ),
)

NAMES = (
    _named("name-too-long", "a job's name of more than 46 characters", "a" * 47),
    _named("name-with-dot", "a job's name with a dot", "yelp.bert"),
    _named("name-begins-with-digit", "a job's name that begins with a digit", "7b-chat"),
    _named("name-in-capitals", "a job's name in capitals", "Yelp"),
)

REFERENCES = (
    refused(
        "claim-name-malformed",
        "a name that no claim can have",
        "spec.storage.claimName",
        '"My Claim" can\'t be the name of a PersistentVolumeClaim: lower case letters, digits, `-` and `.`',
        storage={"claimName": "My Claim"},
    ),
    refused(
        "secret-name-malformed",
        "a name that no Secret can have",
        "spec.hub.tokenSecretRef.name",
        '"HF_TOKEN" can\'t be the name of a Secret: lower case letters, digits, `-` and `.`',
        hub={"tokenSecretRef": {"name": "HF_TOKEN", "key": "token"}},
    ),
    BadInput(
        "label-malformed",
        "a malformed label",
        SaidBy.API_SERVER,
        '"question answering": a valid label must be an empty string or consist of alphanumeric characters',
        "metadata.labels",
        metadata={"labels": {"team": "question answering"}},
        on_laptop=True,
    ),
)

TAKEN = (
    refused(
        "system-variable",
        "an environment variable of the system's",
        "spec.env[0].name",
        '"RANK" is set by the system: leave it out',
        env=[{"name": "RANK", "value": "0"}],
    ),
    refused(
        "token-in-variable",
        "the Hub's token as an environment variable",
        "spec.env[0].name",
        '"HF_TOKEN" would hand the token to every pod: name its Secret in hub.tokenSecretRef',
        env=[{"name": "HF_TOKEN", "value": "x"}],
    ),
    refused(
        "volume-over-system-path",
        "a volume over a path of the system's",
        "spec.volumes[0].mountPath",
        '"/output" is a path that the system mounts, or above or below one: choose another, such as /data',
        volumes=[{"name": "data", "mountPath": "/output", "claimName": "reviews"}],
    ),
    refused(
        "volume-without-source",
        "a volume of nothing",
        "spec.volumes[0]",
        "give exactly one of claimName, configMap and secret",
        volumes=[{"name": "data", "mountPath": "/data"}],
    ),
)

CHANGED: tuple[BadInput, ...] = tuple(
    BadInput(
        f"changed-{re.sub('[A-Z]', lambda letter: '-' + letter[0].lower(), field)}",
        f"`{field}` changed once training has started",
        SaidBy.API_SERVER,
        f"is fixed once training has started: {edit.next_step}",
        f"spec.{field}",
    )
    for field, edit in IMMUTABLE.items()
)
"""Changes, one for each field that is fixed then; `tests/cluster/test_crd_life.py` makes them."""

REFUSED: tuple[BadInput, ...] = (*SHAPE, *OF_DATA, *OF_TASKS, *ARGUMENTS, *SIZES, *NAMES, *REFERENCES, *TAKEN)
ROWS = (*REFUSED, *CHANGED)
