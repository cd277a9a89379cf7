"""What `finetune render` prints is what the API server takes, field by field."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.cluster.client import Client
from tests.support.golden import DATA

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "reviews.yaml"
FINETUNE = (sys.executable, "-c", "from finetune_operator.cli import main; main()")


@pytest.mark.parametrize(
    "manifest", [EXAMPLE, DATA / "job-local.yaml", DATA / "job-hub.yaml"], ids=lambda path: path.stem
)
def test_rendered_objects_are_accepted(manifest: Path, control_plane: Client, namespace: str, tmp_path: Path) -> None:
    job = yaml.safe_load(manifest.read_text())
    job["metadata"]["namespace"] = namespace
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    rendered = subprocess.run(
        [*FINETUNE, "render", str(tmp_path / "job.yaml")], capture_output=True, text=True, check=True
    )
    documents = list(yaml.safe_load_all(rendered.stdout))
    applied = control_plane.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "--namespace", namespace, "-f", "-", stdin=rendered.stdout
    )
    for document in documents:
        assert document["metadata"]["name"] in applied.stdout
    assert applied.stdout.count("created (server dry run)") == len(documents)
    assert "Warning" not in applied.stderr


def test_rendering_names_everything_that_an_attempt_needs(tmp_path: Path) -> None:
    rendered = subprocess.run([*FINETUNE, "render", str(EXAMPLE)], capture_output=True, text=True, check=True)
    kinds = [document["kind"] for document in yaml.safe_load_all(rendered.stdout)]
    assert kinds == ["PersistentVolumeClaim", "ConfigMap", "Service", "Job"]
