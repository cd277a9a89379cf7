"""The token for the Hub, a file in the pods of prepare and publish alone, read here and shown nowhere."""

from __future__ import annotations

from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import HubSettings
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.paths import to_local


def read_token(settings: HubSettings) -> str | None:
    """Read the token of the job's Secret; None where it names none. Raise ExpectedError where it can't be read or is empty."""
    if settings.token_file is None:
        return None
    try:
        token = to_local(settings.token_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        text = f"The token file {settings.token_file} cannot be read: {error.strerror}."
        raise ExpectedError(Reason.ACCESS_DENIED, text) from error
    if not token:
        raise ExpectedError(Reason.ACCESS_DENIED, "The key that spec.hub.tokenSecretRef names is empty.")
    return token
