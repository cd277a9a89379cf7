"""Which of the variables before a command belong to the system, and what the manifest has of the others. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from finetune_operator.api.rules.fields import (
    ENDPOINT_ENV,
    RESERVED_ENV,
    RESERVED_ENV_PREFIXES,
    TOKEN_ENV,
)
from finetune_operator.cli.init.argument_words import escaped
from finetune_operator.cli.init.program_arguments import NO_HUB_TOKEN
from finetune_operator.cli.init.remarks import Remark
from finetune_operator.cli.init.secret_words import is_hub_token, is_secret_value, is_secret_variable
from finetune_trainer.contract.script import ScriptEnv

VISIBLE_DEVICES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_TAKEN_OUT = {
    **dict.fromkeys(VISIBLE_DEVICES, "the cluster gives each pod its GPUs"),
    **dict.fromkeys(
        (
            *("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE", "HF_DATASETS_CACHE", "HF_MODULES_CACHE"),
            *("XDG_CACHE_HOME", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_EVALUATE_OFFLINE"),
        ),
        "the job downloads model and data once, to its claim (HF_HOME)",
    ),
    **dict.fromkeys(
        (
            "PATH",
            "PYTHONPATH",
            "PYTHONHOME",
            "LD_LIBRARY_PATH",
            "VIRTUAL_ENV",
            "CONDA_PREFIX",
            "HOME",
            "USER",
            "PWD",
            "SHELL",
        ),
        "it speaks of folders of this machine",
    ),
    **dict.fromkeys(("TF_CONFIG", *(str(name) for name in ScriptEnv)), "the job sets it"),
}


@dataclass
class Environment:
    """Variables that stay, and what the manifest has in place of the others."""

    values: dict[str, str] = field(default_factory=dict)
    secret_variables: list[str] = field(default_factory=list)
    """Variables that come from a Secret."""
    needs_hub_token: bool = False
    endpoint: str = ""
    gpus: int | None = None
    """GPUs that the command was allowed to see; None where it did not say."""
    secrets: list[str] = field(default_factory=list)
    """Values that must be written nowhere."""
    remarks: list[Remark] = field(default_factory=list)

    def entries(self, secret: str) -> list[dict[str, Any]]:
        """Return `spec.env`."""
        return [
            *({"name": name, "value": escaped(value)} for name, value in self.values.items()),
            *(
                {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}
                for name in self.secret_variables
            ),
        ]


def understand(variables: Mapping[str, str]) -> Environment:
    """Separate the system's variables from the user's own."""
    result = Environment()
    for name, value in variables.items():
        if name in VISIBLE_DEVICES:
            result.gpus = len(
                [device for device in value.split(",") if device.strip() not in ("", "-1", "all", "none")]
            )
            if value.strip() == "all":
                result.gpus = None
        if name in TOKEN_ENV or is_hub_token(value):
            result.needs_hub_token = True
            result.secrets.append(value)
            result.remarks.append(Remark(NO_HUB_TOKEN, name))
        elif name in _TAKEN_OUT or name in RESERVED_ENV or name.startswith(RESERVED_ENV_PREFIXES):
            result.secrets += [value] if is_secret_value(value) else []
            result.remarks.append(Remark(_TAKEN_OUT.get(name, "the job sets it"), name))
        elif name == ENDPOINT_ENV:
            if is_secret_value(value):
                result.secrets.append(value)
            elif re.fullmatch(r"https?://\S+", value):
                result.endpoint = value
            result.remarks.append(Remark("the address of a Hub's mirror is hub.endpoint in the manifest", name))
        elif is_secret_variable(name) or is_secret_value(value):
            result.secret_variables.append(name)
            result.secrets.append(value)
        else:
            result.values[name] = value
    return result
