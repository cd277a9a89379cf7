"""Environment variables that set up the client libraries of the Hub, which read them once, when they are imported."""

from __future__ import annotations

from pathlib import Path

from finetune_trainer.contract.run_config import HubSettings

SILENCE_SECONDS = 60.0
"""The longest silence between two bytes of an answer. The client library alone would wait without end."""


def environment(settings: HubSettings, cache: Path) -> dict[str, str]:
    """Return the variables that huggingface_hub and datasets read when they are imported."""
    variables = {
        "HF_HOME": str(cache),
        "HF_HUB_CACHE": str(cache / "hub"),  # whatever the image has set
        "HF_DATASETS_CACHE": str(cache / "datasets"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # or the name of the dataset goes to a third party, from a mirror too
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_ETAG_TIMEOUT": str(int(SILENCE_SECONDS)),
        "HF_HUB_DOWNLOAD_TIMEOUT": str(int(SILENCE_SECONDS)),
    }
    if settings.endpoint:
        # A mirror need not speak Xet, and the client does not fall back.
        variables |= {"HF_ENDPOINT": settings.endpoint.rstrip("/"), "HF_HUB_DISABLE_XET": "1"}
    return variables
