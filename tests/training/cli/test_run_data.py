"""`finetune run` after the data has changed: a checkpoint of what it was before is not gone on from, and that is said."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.local_run import LocalRun
from tests.support.patience import PATIENCE_SECONDS
from tests.support.tiny import reviews, write_rows

LONG = {"max_steps": 2000, "warmup_steps": 0, "eval_strategy": "no", "save_strategy": "steps", "save_steps": 20}


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalRun]:
    made = LocalRun(tmp_path, arguments=LONG, spec={"nodes": 1})
    made.make_data()
    yield made
    made.close()


def rename_labels(local: LocalRun, *labels: str) -> None:
    """Rename the labels; there are as many rows and classes as before."""
    write_rows(local.data / "train.csv", reviews(256, labels=labels))
    write_rows(local.data / "validation.csv", reviews(64, seed=1, labels=labels))


def stopped_after(local: LocalRun, holds: Any) -> dict[str, Any]:
    status = local.wait_until(holds)
    local.started[-1].send_signal(signal.SIGINT)
    assert local.started[-1].wait(PATIENCE_SECONDS) == 130
    return status


def test_mended_data_is_read_again_and_trained_on_from_the_start(local: LocalRun) -> None:
    local.start()
    stopped_after(local, lambda status: bool(status.get("checkpoint")))

    rename_labels(local, "negative", "bad")  # in their order the classes change places
    local.start()  # the same command
    again = stopped_after(local, lambda status: "/attempts/2/" in status.get("checkpoint", {}).get("path", ""))
    assert "resumedFrom" not in again
    assert any(
        "made from other data (classes negative, positive; now bad, negative)" in text for text in again["messages"]
    )

    rename_labels(local, "bad", "worse")
    local.spec["env"] = [{"name": "ANOTHER", "value": "1"}]  # another job of the name
    local.start()
    anew = stopped_after(local, lambda status: status.get("attempt") == 1 and status.get("attemptBegun"))
    assert "resumedFrom" not in anew
    assert any("of an earlier, unfinished run, was made from other data" in text for text in anew["messages"])
    assert "going on from" not in local.output()
