"""A volume that is full or read-only for a while in training: real ranks, on a real file system that is one of the two."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from finetune_trainer.contract.launch_protocol import Saved
from finetune_trainer.train import pulse as pulses
from finetune_trainer.train.pulse import AGAIN_SECONDS, Pulse
from tests.support.ranks import run_ranks
from tests.support.runs import run_config
from tests.support.tiny import reviews, tiny_bert, write_rows

MIB = 1 << 20
SIZE = 64 * MIB


class Volume:
    """A folder of memory that can be filled, and be made read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filling = folder / "of-somebody-else"

    def mount(self, *options: str) -> None:
        subprocess.run(["mount", *options, str(self.folder)], check=True, capture_output=True)

    def fill(self, *, but: int) -> None:
        self._filling.write_bytes(bytes(SIZE - but))

    def make_room(self) -> None:
        self._filling.unlink()


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    made = Volume(tmp_path / "volume")
    made.folder.mkdir()
    try:
        made.mount("-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount")
    yield made
    subprocess.run(["umount", "--lazy", str(made.folder)], check=True)


def test_training_goes_on_while_the_volume_is_full_or_read_only(volume: Volume, tmp_path: Path) -> None:
    """The volume is full for the first checkpoint, well for the second, read-only for the third, and for the model at first."""
    config = run_config(
        tmp_path / "output",
        model=tiny_bert(tmp_path / "model"),
        train=write_rows(tmp_path / "train.csv", reviews(64)),
        arguments={"max_steps": 8, "per_device_train_batch_size": 8, "save_strategy": "steps", "save_steps": 2},
    )
    volume.fill(but=MIB // 32)
    reports: list[str] = []

    def happens(path: str, body: dict[str, Any]) -> None:
        if path == "/rank/checkpoint":
            reports.append(body.get("problem", "sealed"))
            match len(reports):
                case 1:
                    volume.make_room()
                case 2 | 4:
                    volume.mount("-o", "remount,ro")
                case 3:
                    volume.mount("-o", "remount,rw")
        if any("can't be written to the volume now" in text for text in body.get("messages", ())):
            volume.mount("-o", "remount,rw")

    finished = run_ranks(volume.folder, config, happens=happens)
    assert finished.returncode == 0, finished.output
    assert [text.split(":")[0] for text in reports] == ["volume_full", "sealed", "volume", "sealed"]
    assert "Read-only file system" in reports[2]
    assert sorted(path.name for path in finished.sealed.iterdir()) == ["checkpoint-4", "checkpoint-8"]
    full, *_ = finished.heard.checkpoints
    weights = (finished.model / "model.safetensors").stat().st_size
    assert 2.5 * weights < full["sizeBytes"] < 3.5 * weights, "the weights, and two moments of each"
    assert finished.heard.models, "the model was handed over in the end"


def test_checkpoint_given_up_is_made_again_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A checkpoint that was given up is made again before the next one is due."""
    now = [1000.0]
    monkeypatch.setattr(pulses, "time", SimpleNamespace(monotonic=lambda: now[0]))
    pulse = Pulse(1, 0, None, save_seconds=None)

    def saves_after(seconds: float, saved: Saved) -> bool:
        now[0] += seconds
        pulse.heard(saved)
        pulse._next = 1
        beat = pulse.step()
        assert beat is not None
        if beat.save:
            pulse.saved()
        return beat.save

    assert not saves_after(3600, Saved(sealed=10))
    assert not saves_after(1, Saved(sealed=10, given_up=20))
    assert not saves_after(AGAIN_SECONDS - 1, Saved(sealed=10, given_up=20))
    assert saves_after(1, Saved(sealed=10, given_up=20))
    assert not saves_after(3600, Saved(sealed=10, given_up=20)), "once"
    assert not saves_after(1, Saved(sealed=10, given_up=21))
    assert not saves_after(AGAIN_SECONDS, Saved(sealed=10, given_up=21)), "the pause grows"
    assert saves_after(AGAIN_SECONDS, Saved(sealed=10, given_up=21))
    assert not saves_after(1, Saved(sealed=22, given_up=21))
    assert not saves_after(1, Saved(sealed=22, given_up=30))
    assert saves_after(AGAIN_SECONDS, Saved(sealed=22, given_up=30)), "and begins anew once one was sealed"
