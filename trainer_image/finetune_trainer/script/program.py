"""Runs the user's program in this process, as `python FILE` or `python -m MODULE` would."""

from __future__ import annotations

import os
import re
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from finetune_trainer.contract.prepared import Prepared
from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import ScriptConfig
from finetune_trainer.contract.script import Script, ScriptEnv
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.paths import to_local
from finetune_trainer.shared.volume import Layout, make_folder

_REFERENCE = re.compile(r"\$(\$)?\(([A-Za-z_][A-Za-z0-9_]*)\)")
_CACHES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE", "HF_DATASETS_CACHE")
"""Variables that libraries prefer to HF_HOME."""


def run(config: ScriptConfig, prepared: Prepared) -> None:
    """Run the program to its end. Raises what it raises, SystemExit too, and ExpectedError where there is no such program."""
    script, output = config.script, Layout.of(config).run.output
    make_folder(output)
    os.environ[ScriptEnv.DATA_DIR] = str(to_local(prepared.data)) if prepared.data is not None else ""
    if prepared.hub_home is not None:
        _use_hub_home(to_local(prepared.hub_home))
    if prepared.packages is not None:
        _add_packages(to_local(prepared.packages))
    _expand_variables(os.environ)
    # Relative paths lead to the volume: elsewhere a pod's file system is read-only, and what it holds is lost with the pod.
    os.chdir(output)
    arguments = command_line(script, os.environ)
    if script.module is not None:
        sys.argv = [script.module, *arguments]
        sys.path.insert(0, str(output))
        runpy.run_module(script.module, run_name="__main__", alter_sys=True)
        return
    file = to_local(script.path or "")
    if not file.is_file():
        raise ExpectedError(Reason.FILE_NOT_FOUND, f"spec.script: there is no file {script.path} in the pod.")
    sys.argv = [str(file), *arguments]
    sys.path.insert(0, str(file.parent))
    runpy.run_path(str(file), run_name="__main__")


def command_line(script: Script, env: Mapping[str, str]) -> list[str]:
    """Return the program's arguments, with variables in the place of their names, and the checkpoint where there is one."""
    arguments = [expanded(argument, env) for argument in script.arguments]
    checkpoint = env.get(ScriptEnv.RESUME_FROM_CHECKPOINT)
    if script.checkpoint_argument is not None and checkpoint:
        arguments += [script.checkpoint_argument, checkpoint]
    return arguments


def expanded(text: str, env: Mapping[str, str]) -> str:
    """Replace `$(NAME)` as Kubernetes does in a container's arguments: an unknown name stays, `$$(NAME)` is `$(NAME)`."""

    def value(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        return env.get(match[2], match[0])

    return _REFERENCE.sub(value, text)


def _expand_variables(env: os._Environ[str]) -> None:
    """Replace in variables of the user's what kubelet could not know, such as $(OUTPUT_DIR)."""
    for name in [name for name, value in env.items() if "$(" in value]:
        env[name] = expanded(env[name], {key: value for key, value in env.items() if key in set(ScriptEnv)})


def _use_hub_home(folder: Path) -> None:
    """Let the libraries of Hugging Face find model and dataset there, whatever the image has set."""
    for name in _CACHES:
        os.environ.pop(name, None)
    os.environ["HF_HOME"] = str(folder)


def _add_packages(folder: Path) -> None:
    """Let this process and those that it starts import the packages that the script requires, before those of the image."""
    sys.path.insert(0, str(folder))
    paths: Sequence[str] = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
