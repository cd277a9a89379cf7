"""The matrix of bad input, what prepare says: each row in its words, before a rank starts, and then a good job."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.plan.types import PlanSettings
from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Cause, Failure
from finetune_trainer.contract.run_config import Env, TaskConfig
from finetune_trainer.prepare.prepare_command import attempt
from tests.support.bad_input.data import MAKERS, ROWS
from tests.support.bad_input.place import NOTICE, Place
from tests.support.bad_input.row import BadInput
from tests.support.run_configs import task_config
from tests.support.tiny import tiny_bert

POD_USER = 10001
SETTINGS = PlanSettings(trainer_image="trainer")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Make a folder that is not in pytest's own, which is private: the pods' user must get here."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        (Path(name) / "claim").mkdir()
        for file in tiny_bert(Path(name) / "base").iterdir():
            file.chmod(0o644)  # weights are saved for their owner alone
        yield Path(name)


@pytest.fixture
def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Prepare the good job's files; the claim is that of all rows."""
    made = Place(folder / "data", folder / "models", folder / "claim", folder / "base")
    made.make_good()
    return made


def config(name: str, spec: dict[str, Any]) -> TaskConfig:
    """Return the run config of the good job with what a row changes in its spec, as the operator makes it."""
    body: dict[str, Any] = {
        "task": "text-classification",
        "model": {"name": "/models/base"},
        "dataset": {
            "files": {"train": ["/data/train.csv"], "validation": ["/data/validation.jsonl"]},
            "columns": {"text": "review", "label": "stars"},
        },
        "trainingArguments": {"num_train_epochs": 5},
        "storage": {"claimName": "shared"},
    }
    for path, value in spec.items():
        *holders, last = path.split(".")
        holder = body
        for key in holders:
            holder = holder.setdefault(key, {})
        if value is None:
            del holder[last]
        else:
            holder[last] = value
    metadata = {"name": "reviews", "namespace": "default", "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return task_config(FineTuneJob.model_validate({"metadata": metadata, "spec": body}), SETTINGS)


@contextmanager
def as_user(uid: int) -> Iterator[None]:
    """Act as another user for a while, where this one is root, who may read everything."""
    if os.getuid() != 0:
        yield
        return
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def expected(row: BadInput, place: Place) -> str:
    """Return the row's words with the numbers of whoever runs the tests, and the claim's place here."""
    uid, gid = os.getuid(), os.getgid()
    message = row.message.replace("/output", str(place.claim))
    if uid == 0:
        return message
    mine = message.replace("uid 0, gid 0", f"uid {uid}, gid {gid}")
    return mine.replace(f"uid {POD_USER}, gid {POD_USER}", f"uid {uid}, gid {gid}")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_prepare_says_what_is_wrong_and_a_good_job_follows(
    row: BadInput, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    MAKERS[row.setup](place)
    monkeypatch.setenv(Env.PATHS, json.dumps(place.paths))
    with as_user(POD_USER if place.as_pods_user else os.getuid()):
        outcome = attempt(config(row.name, dict(row.spec)))
    if row.reason == NOTICE:
        assert isinstance(outcome, PreparedTask), outcome
        assert expected(row, place) in outcome.messages
    else:
        assert isinstance(outcome, Failure), outcome
        assert (outcome.reason, outcome.cause) == (row.reason, Cause.USER), outcome.message
        assert expected(row, place) in outcome.message
        assert not list(place.claim.glob(f"reviews/runs/{row.name}/*")), "nothing may look prepared"
    place.claim.chmod(0o777)
    place.make_good()
    good = attempt(config(f"{row.name}-good", {}))
    assert isinstance(good, PreparedTask), good
    assert good.summary.train_rows == 16
    assert good.messages == ()
    assert not list(place.claim.glob(".finetune/prepared/*.partial*")), "nothing is left behind"
