"""Jobs with a user's own program, prepared in this process; and packages for them, made without a network."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_trainer.contract.run_config import ScriptConfig

UID = "22222222-bbbb"


def script_config(
    output: Path, *, uid: str = UID, script: Mapping[str, Any] | None = None, **fields: Any
) -> ScriptConfig:
    """Return the run of a program on one node."""
    output.mkdir(parents=True, exist_ok=True)
    base: dict[str, Any] = {
        "namespace": "default",
        "job": "my-script",
        "uid": uid,
        "script": {"path": "/code/train.py", **(script or {})},
        "nodes": 1,
        "processes_per_node": 1,
        "accelerators": False,
        "output": str(output),
        "prepare": "job",
    }
    return ScriptConfig.model_validate(base | fields)


def wheel(folder: Path, name: str, version: str, requires: tuple[str, ...] = ()) -> Path:
    """Write a package as an index serves it: one module that knows its version."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    files = {
        f"{name}/__init__.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(zipfile.ZipInfo(file), text)
    return path


def index_of(folder: Path) -> dict[str, str]:
    """Return the variables by which pip finds packages in a folder alone, whatever this machine is set to."""
    return {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
