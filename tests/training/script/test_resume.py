"""Programs of the user's own that are taken away in the middle: they go on from their newest good checkpoint, under each launcher."""

from __future__ import annotations

import json
from pathlib import Path

from finetune_trainer.contract.records import Outcome, Reason
from tests.support.damage import tear
from tests.support.script_launches import ScriptLaunches, kill


def test_native_loop_killed_in_mid_save_ends_as_if_undisturbed(scripts: ScriptLaunches, tmp_path: Path) -> None:
    """The newest folder is torn by the kill, the one before by hand: the sealed bytes come back."""
    scripts.nodes, scripts.program = 2, "native_loop.py"
    arguments = ("--output_dir=$(OUTPUT_DIR)",)
    scripts.script = {"launcher": "torchrun", "arguments": (*arguments, "--hang_at=6")}
    nodes = scripts.start()
    seen = scripts.wait_for_step(nodes[0], 6, checkpoint=4)
    assert seen.total_steps == 10
    assert seen.evaluation is not None
    assert seen.evaluation["eval_error"] == seen.loss
    kill(*nodes)
    assert scripts.sealed() == ["step_2", "step_4"]
    good = (scripts.output / "step_4" / "state.pt").read_bytes()
    tear(scripts.output / "step_4" / "state.pt")

    scripts.script = {"launcher": "torchrun", "arguments": arguments}
    record, other = scripts.run(attempt=2)
    assert (record.outcome, other.outcome) == (Outcome.SUCCEEDED, Outcome.SUCCEEDED), scripts.started[2].text()
    assert "rank 0 of 2 goes on from step 4: step_4" in scripts.started[2].text()
    assert (scripts.output / "step_4" / "state.pt").read_bytes() == good
    assert scripts.aside() == ["step_4", "step_6"]
    assert record.step == 10

    undisturbed = ScriptLaunches(tmp_path / "undisturbed", processes=2, program="native_loop.py", script=scripts.script)
    try:
        (calm,) = undisturbed.run()
        assert calm.outcome is Outcome.SUCCEEDED, undisturbed.started[0].text()
        assert (scripts.model / "model.pt").read_bytes() == (undisturbed.model / "model.pt").read_bytes()
    finally:
        undisturbed.close()


def test_trainer_script_finds_its_newest_checkpoint_and_shows_progress(scripts: ScriptLaunches) -> None:
    scripts.program = "trainer_script.py"
    arguments = [
        "--output_dir=$(OUTPUT_DIR)",
        "--max_steps=8",
        "--save_steps=2",
        "--save_total_limit=2",
        "--logging_steps=1",
        "--use_cpu",
        "--disable_tqdm=True",
    ]
    scripts.script = {"arguments": (*arguments, "--die_after=5")}
    (first,) = scripts.run()
    assert first.failure is not None
    assert first.failure.reason is Reason.RANK_KILLED, scripts.started[0].text()
    assert first.checkpoint is not None
    assert first.checkpoint.step == 4
    assert scripts.sealed()[-1] == "checkpoint-4"

    scripts.script = {"arguments": tuple(arguments)}
    (second,) = scripts.run(attempt=2)
    assert second.outcome is Outcome.SUCCEEDED, scripts.started[1].text()
    assert f"newest checkpoint: {scripts.output}/checkpoint-4" in scripts.started[1].text()
    assert second.step == 8
    state = json.loads((scripts.output / "trainer_state.json").read_text())
    assert [entry["step"] for entry in state["log_history"] if "loss" in entry] == list(range(1, 9))
    files = {path.name for path in scripts.model.iterdir()}
    assert "model.safetensors" in files
    assert not files & {"training_args.bin", "optimizer.pt", "checkpoint-8"}


def test_accelerate_on_two_nodes_and_then_on_one_with_two_ranks(scripts: ScriptLaunches) -> None:
    scripts.program, scripts.nodes = "accelerate_loop.py", 2
    arguments = ("--output_dir=$(OUTPUT_DIR)",)
    scripts.script = {
        "launcher": "accelerate",
        "arguments": (*arguments, "--die_after=5"),
        "checkpointArgument": "--resume_from_checkpoint",
        "modelOutput": "final",
    }
    records = scripts.run()
    assert [record.failure and record.failure.reason for record in records] == [Reason.RANK_KILLED] * 2
    assert seen_by(scripts) == [
        {"rank": 0, "world": 2, "done": 0, "node": 0, "momentum": 0.0},
        {"rank": 1, "world": 2, "done": 0, "node": 1, "momentum": 0.0},
    ]
    assert scripts.sealed()[-1] == "step_4"

    scripts.script["arguments"] = arguments
    scripts.nodes, scripts.processes = 1, 2
    (record,) = scripts.run(attempt=2)
    assert record.outcome is Outcome.SUCCEEDED, scripts.started[-1].text()
    assert record.step == 8
    first, second = seen_by(scripts)
    assert (first["world"], first["done"], second["done"], second["node"]) == (2, 4, 4, 0)
    assert first["momentum"] == second["momentum"] != 0
    assert [path.name for path in scripts.model.glob("*.safetensors")] == ["model.safetensors"]


def seen_by(scripts: ScriptLaunches) -> list[dict[str, float]]:
    """Return what each rank of the Accelerate loop saw of its world."""
    return [json.loads((scripts.output / f"seen-{rank}.json").read_text()) for rank in range(2)]
