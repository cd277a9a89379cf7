"""Where a model goes, and by whose token, makes no other data and no other training of it."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_trainer.launch.resume_decision import trains_the_same
from finetune_trainer.prepare.fingerprint import config_digest, data_key
from tests.support.published import config


@pytest.mark.parametrize(
    "change",
    [
        {"publish": None},
        {"publish": {"repo_id": "team/other", "revision": "v2", "private": True, "deadline_seconds": 1}},
        {"hub": {"token_file": "/var/run/finetune/hub/token"}},
    ],
)
def test_another_target_is_the_same_run(change: dict[str, Any]) -> None:
    first = config("/output")
    other = first.model_validate({**first.model_dump(), **change})
    assert first != other
    assert config_digest(first) == config_digest(other)
    keys = [data_key(run, data="commit", model="t", limits=(8, None)) for run in (first, other)]
    assert keys[0] == keys[1]
    assert trains_the_same(first, other)
