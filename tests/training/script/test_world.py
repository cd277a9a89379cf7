"""What a program that is started by plain python finds of its world."""

from __future__ import annotations

import json

from finetune_trainer.contract.records import Outcome
from tests.support.script_launches import ScriptLaunches

PROGRAM = """
import json, os, sys
from pathlib import Path
names = ("TF_CONFIG", "RANK", "NODES", "NODE_RANK", "OUTPUT_DIR", "CHECKPOINT_DIR", "RESUME_FROM_CHECKPOINT")
seen = {name: os.environ.get(name) for name in names} | {"cwd": os.getcwd(), "arguments": sys.argv[1:]}
Path(f"node-{os.environ['NODE_RANK']}.json").write_text(json.dumps(seen))
"""


def test_launcher_python_gives_each_node_its_place_in_tf_config(scripts: ScriptLaunches) -> None:
    scripts.nodes, scripts.text = 2, PROGRAM
    scripts.script = {"arguments": ("--out=$(OUTPUT_DIR)/x", "$$(OUTPUT_DIR)", "--rank=$(NODE_RANK)")}
    records = scripts.run()
    assert [record.outcome for record in records] == [Outcome.SUCCEEDED] * 2, scripts.started[0].text()
    first, second = (json.loads((scripts.output / f"node-{node}.json").read_text()) for node in range(2))
    clusters = [json.loads(seen["TF_CONFIG"]) for seen in (first, second)]
    assert [cluster["task"] for cluster in clusters] == [{"type": "worker", "index": node} for node in range(2)]
    assert clusters[0]["cluster"] == clusters[1]["cluster"]
    workers = clusters[0]["cluster"]["worker"]
    assert len(set(workers)) == 2
    assert all(worker.startswith("127.0.0.1:") for worker in workers)
    assert (first["RANK"], first["NODES"], first["NODE_RANK"], second["NODE_RANK"]) == (None, "2", "0", "1")
    output = str(scripts.output)
    assert (first["OUTPUT_DIR"], first["cwd"], first["CHECKPOINT_DIR"]) == (output, output, f"{output}/checkpoints")
    assert first["RESUME_FROM_CHECKPOINT"] == ""
    assert second["arguments"] == [f"--out={output}/x", "$(OUTPUT_DIR)", "--rank=1"]


def test_one_node_has_no_tf_config(scripts: ScriptLaunches) -> None:
    scripts.text = PROGRAM
    (record,) = scripts.run()
    assert record.outcome is Outcome.SUCCEEDED, scripts.started[0].text()
    assert json.loads((scripts.output / "node-0.json").read_text())["TF_CONFIG"] is None


def test_program_runs_once_the_preflight_has_passed(scripts: ScriptLaunches) -> None:
    scripts.text, scripts.script = PROGRAM, {"launcher": "accelerate", "preflight": True}
    (record,) = scripts.run()
    text = scripts.started[0].text()
    assert record.outcome is Outcome.SUCCEEDED, text
    assert text.index("the pre-flight test has passed") < text.index("ranks started")
