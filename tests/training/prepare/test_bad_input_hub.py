"""The matrix of bad input, what prepare says of the Hub: one claim for all, and a good job in it at the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Cause, Failure
from tests.support.bad_input.hub import ROWS
from tests.support.bad_input.row import BadInput
from tests.support.hub_content import closed_doors, datasets, models
from tests.support.hub_jobs import HubJobs, hub_of_this_process
from tests.support.stub_hub import COMMITS, FINE_GRAINED_TOKEN, READ_TOKEN, TOKEN, stub_hub

TOKENS = {
    "": TOKEN,
    "no_token": None,
    "empty_token": "",
    "wrong_token": "hf_not_valid",
    "read_token": READ_TOKEN,
    "fine_grained_token": FINE_GRAINED_TOKEN,
}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubJobs]:
    folder = tmp_path_factory.mktemp("hub")
    with stub_hub() as hub, hub_of_this_process(hub, folder / "claim/.finetune/hub"):
        hub.models.update(models(folder / "models"))
        hub.datasets.update(datasets(folder / "datasets"))
        closed_doors(hub)
        yield HubJobs(hub, folder)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_prepare_says_what_is_wrong(row: BadInput, jobs: HubJobs) -> None:
    jobs.token = TOKENS[row.setup]
    failure = jobs.prepare(row.spec, row.name)
    assert isinstance(failure, Failure), failure
    assert (failure.reason, failure.cause) == (row.reason, Cause.USER), failure
    assert row.message in failure.message
    assert not jobs.token or jobs.token not in failure.message


def test_a_good_job_in_the_same_claim(jobs: HubJobs) -> None:
    jobs.token = TOKEN
    prepared = jobs.prepare({"publish": {"repoId": "me/model"}}, "good")
    assert isinstance(prepared, PreparedTask), prepared
    assert prepared.resolved.model_revision == prepared.resolved.dataset_revision == COMMITS["main"]
    assert "me/model" not in jobs.hub.models


def test_gated_and_private_with_a_token_that_was_let_in(jobs: HubJobs) -> None:
    jobs.token = READ_TOKEN
    for name, spec in {
        "gated": {"model.name": "us/gated", "dataset.name": "us/gated"},
        "private": {"model.name": "us/private", "dataset.name": "us/configs", "dataset.config": "plain"},
    }.items():
        prepared = jobs.prepare(spec, name)
        assert isinstance(prepared, PreparedTask), prepared
        assert Path(prepared.model).parts[-3] == f"models--us--{name}"
