"""`finetune validate` without its terminal: what is wrong with a manifest, in the API server's words."""

from __future__ import annotations

from typing import Any

from finetune_operator.api.resource import GROUP, KIND
from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.api.validation import Problem, check, normalised

__all__ = ["Problem", "is_fine_tune_job", "normalised", "validate", "warnings"]


def is_fine_tune_job(manifest: dict[str, Any]) -> bool:
    """Whether a manifest wants to be a FineTuneJob: a file may hold its Secret and claims beside it."""
    version, kind = manifest.get("apiVersion"), manifest.get("kind")
    ours = isinstance(version, str) and version.partition("/")[0] == GROUP
    return ours or (isinstance(kind, str) and kind.lower() == KIND.lower())


def validate(manifest: dict[str, Any]) -> tuple[Problem, ...]:
    """Everything that the API server would refuse; empty for a good FineTuneJob."""
    return check(manifest)


def warnings(manifest: dict[str, Any]) -> tuple[str, ...]:
    """What is accepted and better said otherwise, for a manifest without problems."""
    from finetune_operator.api.deprecated import translate

    return translate(FineTuneJobSpec.model_validate(normalised(manifest)["spec"]).training_arguments)[1]
