"""Changes of the definition of FineTuneJob in a running cluster, which are undone afterwards."""

from __future__ import annotations

import json

from tests.support.api import Manifest
from tests.support.cluster.client import REPOSITORY, Client

DEFINITION = "finetunejobs.finetune.dev"
SCHEMA = "/spec/versions/0/schema/openAPIV3Schema"


def change_definition(control_plane: Client, *changes: Manifest) -> None:
    control_plane.kubectl("patch", "crd", DEFINITION, "--type=json", f"--patch={json.dumps(changes)}")


def restore_definition(control_plane: Client) -> None:
    control_plane.kubectl("replace", "-f", REPOSITORY / "crds" / f"{DEFINITION}.yaml")
    control_plane.install_crds()
