"""The FineTuneJob as a whole: names, metadata, spec and status."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.api.status import FineTuneJobStatus

GROUP = "finetune.dev"
VERSION = "v1alpha1"
PLURAL = "finetunejobs"
KIND = "FineTuneJob"
API_VERSION = f"{GROUP}/{VERSION}"

LABEL_JOB = f"{GROUP}/job"
"""Name of the FineTuneJob, on every child."""
LABEL_ROLE = f"{GROUP}/role"
"""`prepare`, `train` or `publish`, on Jobs and pods."""
LABEL_ATTEMPT = f"{GROUP}/attempt"
"""Number of the attempt, on Jobs and pods."""
LABEL_UID = f"{GROUP}/uid"
"""uid of the FineTuneJob, on the retained claim in place of an owner reference."""


class Metadata(BaseModel):
    """The part of an object's metadata that decisions need."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    name: str
    namespace: str
    uid: str
    generation: int = 1
    resource_version: str = ""
    creation_timestamp: datetime
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class FineTuneJob(BaseModel):
    """A FineTuneJob as the API server holds it."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    metadata: Metadata
    spec: FineTuneJobSpec
    status: FineTuneJobStatus = FineTuneJobStatus()

    @classmethod
    def parse(cls, body: dict[str, Any]) -> FineTuneJob:
        """Parse an object. Raises pydantic.ValidationError where it is no FineTuneJob of this version."""
        return cls.model_validate({**body, "status": body.get("status") or {}})
