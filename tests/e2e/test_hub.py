"""The main path: a gated model and dataset from the Hub, two nodes, and the model back on the Hub, with one token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import e2e, tiny
from tests.support.api import Api, Manifest
from tests.support.cluster.client import REPOSITORY
from tests.support.cluster.manifests import CONTROL_ADDRESS
from tests.support.cluster.nodes import NodeCluster
from tests.support.installed import InstalledOperator
from tests.support.patience import PATIENCE_SECONDS
from tests.support.stub_hub import COMMITS, TOKEN, Repository, StubHub, stub_hub

pytestmark = pytest.mark.usefixtures("data")
MODEL, DATASET, TARGET = "team/small-bert", "team/reviews", "me/reviews-bert"
JOB = "two"
PUBLISHED = [
    *("Pending", "Preparing", "Starting", "Running", "Restarting", "Starting", "Running", "Publishing", "Succeeded")
]
SCORE = """
import sys
from tests.support import e2e, tiny
print(e2e.accuracy(sys.argv[1], tiny.reviews(100, seed=2)))
"""


@dataclass(frozen=True)
class Run:
    """The job once it has succeeded, with all that there is to see of it."""

    story: e2e.Story
    status: Manifest
    scraped: dict[str, float]
    pods: list[Manifest]
    volume: Path
    hub: StubHub
    logged: dict[int, float]


@pytest.fixture
def hub(data: Path, tmp_path: Path) -> Iterator[StubHub]:
    """A stub of the Hub where pods reach it, with a gated model and a gated dataset of an organisation of the token's account."""
    rows = tmp_path / "reviews"
    tiny.write_rows(rows / "train.csv", tiny.reviews(e2e.TRAIN_ROWS, seed=1))
    tiny.write_rows(rows / "validation.csv", tiny.reviews(100, seed=2))
    with stub_hub(CONTROL_ADDRESS) as hub:
        hub.models[MODEL] = Repository(data / "model", gated=True)
        hub.datasets[DATASET] = Repository(rows, gated=True)
        yield hub


@pytest.fixture
def run(cluster: NodeCluster, operator: InstalledOperator, api: Api, namespace: str, hub: StubHub) -> Run:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hub"}, "stringData": {"token": TOKEN}}
    api.create(secret)
    job = e2e.job_manifest(JOB)
    job["spec"] |= {
        "model": {"name": MODEL},
        "dataset": {
            "name": DATASET,
            "splits": {"train": "train", "validation": "validation"},
            "columns": {"text": "review", "label": "stars"},
        },
        "hub": {"endpoint": hub.endpoint, "tokenSecretRef": {"name": "hub", "key": "token"}},
        "publish": {"repoId": TARGET, "private": True, "commitMessage": "From the cluster"},
        "volumes": [],
    }
    api.create(job)
    with e2e.Story(cluster, namespace, JOB) as story:
        scraped = e2e.wait_for_metrics(api, JOB, beyond_step=20)
        status = story.wait_for("Succeeded")
    volume = cluster.volume_path(JOB, namespace)
    logged = dict(e2e.losses(e2e.attempt_folder(volume, JOB, 1) / "checkpoints" / f"checkpoint-{e2e.STEPS}"))
    return Run(story, status, scraped, api.list("Pod"), volume, hub, logged)


def test_from_a_gated_model_on_the_hub_to_the_finished_one(
    cluster: NodeCluster, api: Api, namespace: str, run: Run, tmp_path: Path
) -> None:
    scoring = _score_from_hub(run.hub, tmp_path)  # runs beside the next job
    alone = e2e.run_undisturbed(cluster, api, namespace, "one", nodes=1, batch=2 * e2e.BATCH, max_steps=1)

    _tells_the_truth(run)
    _two_nodes_were_one_world(run, alone)
    _is_on_the_hub(run)
    _token_stayed_where_it_is_needed(cluster, api, namespace, run)
    scored, errors = scoring.communicate(timeout=PATIENCE_SECONDS)
    assert scoring.returncode == 0, errors
    assert float(scored) == pytest.approx(run.status["evaluation"]["accuracy"])


def _tells_the_truth(run: Run) -> None:
    status = run.status
    assert e2e.is_in_order(run.story.phases, PUBLISHED), run.story.phases
    assert run.story.phases[-3:] == ["Running", "Publishing", "Succeeded"]
    assert status["attempt"] == 1
    assert status["progress"]["step"] == status["progress"]["totalSteps"] == e2e.STEPS
    assert status["resolved"]["precision"] == "fp32"
    assert status["resolved"]["modelRevision"] == status["resolved"]["datasetRevision"] == COMMITS["main"]
    assert run.scraped["finetune_max_steps"] == e2e.STEPS
    assert _is_mean_of_last(run.scraped["finetune_train_loss"], run.logged, int(run.scraped["finetune_global_step"]))
    conditions = {condition["type"]: (condition["status"], condition["reason"]) for condition in status["conditions"]}
    assert conditions["Published"] == ("True", "Published")
    assert conditions["Complete"][0] == "True"


def _two_nodes_were_one_world(run: Run, alone: Path) -> None:
    """The first step of one node with the whole batch has the loss of two nodes with half of it each."""
    first = e2e.losses(alone / "checkpoints" / "checkpoint-1")[0][1]
    assert first == pytest.approx(run.logged[1], abs=1e-5)


def _is_on_the_hub(run: Run) -> None:
    target = run.hub.models[TARGET]
    (commit,) = target.commits
    model = run.volume / JOB / "model"
    assert run.status["model"]["hub"] == {
        "repoId": TARGET,
        "url": f"{run.hub.endpoint}/{TARGET}",
        "commit": commit.oid,
    }
    assert target.private
    assert commit.message == "From the cluster"
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(commit.files)
    assert not [name for name in commit.files if name.endswith(".bin") or "optimizer" in name or "checkpoint" in name]
    assert commit.files["model.safetensors"] == (model / "model.safetensors").read_bytes()
    card = commit.files["README.md"].decode()
    for fact in (f"base_model: {MODEL}", DATASET, COMMITS["main"], "text-classification"):
        assert fact in card, fact


def _token_stayed_where_it_is_needed(cluster: NodeCluster, api: Api, namespace: str, run: Run) -> None:
    mounted = {
        pod["metadata"]["labels"]["finetune.dev/role"]: "secret" in json.dumps(pod["spec"]["volumes"])
        for pod in run.pods
    }
    assert mounted == {"prepare": True, "train": False, "publish": True}
    assert run.hub.tokens == {TOKEN, ""}, "what was uploaded in parts goes to an address that is a permission in itself"
    shown = [TOKEN in json.dumps(api.list(kind)) for kind in ("FineTuneJob", "Job", "Pod", "ConfigMap", "Event")]
    assert not any(shown)
    for pod in run.pods:
        log = cluster.kubectl("logs", pod["metadata"]["name"], f"--namespace={namespace}").stdout
        assert TOKEN not in log
    assert not [path for path in run.volume.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    ends = [
        container["state"]["terminated"]["finishedAt"]
        for pod in run.pods
        if pod["metadata"]["labels"]["finetune.dev/role"] == "train"
        for container in pod["status"]["containerStatuses"]
    ]
    (publisher,) = (pod for pod in run.pods if pod["metadata"]["labels"]["finetune.dev/role"] == "publish")
    assert publisher["metadata"]["creationTimestamp"] >= max(ends), "accelerators were not given back first"


def _score_from_hub(hub: StubHub, folder: Path) -> subprocess.Popen[str]:
    """Score rows as a user of the model does: `from_pretrained` of the repository, with the Hub's address and a token."""
    environment = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": TOKEN,
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-c", SCORE, TARGET],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _is_mean_of_last(reported: float, logged: dict[int, float], step: int) -> bool:
    """Return whether this is the mean loss of the last steps, however many, up to a step."""
    means = (sum(logged[step - back] for back in range(count)) / count for count in range(1, step + 1))
    return any(mean == pytest.approx(reported, abs=1e-4) for mean in means)
