"""Messages of ranks and nodes to `launch` over HTTP: the bodies of /rank/*, /peer/* and /healthz.

Ranks import this module, so it is pydantic only. All times are UTC, all names of files relative to the folder of the
checkpoint or model that they belong to.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field

from finetune_trainer.contract.frozen_document import Document, FiniteMetrics, PodPath
from finetune_trainer.contract.records import CheckpointRef, Failure, Outcome, PodPhase, ResultRecord


class RankEnv(StrEnum):
    """Environment variables that `launch` sets for a rank, beside torchrun's own and `run_config.Env`."""

    LAUNCH_URL = "FINETUNE_LAUNCH_URL"
    """`http://127.0.0.1:<port>`."""
    TOKEN_FILE = "FINETUNE_LAUNCH_TOKEN_FILE"
    """File with the token for `Authorization: Bearer`."""
    STAGING = "FINETUNE_STAGING"
    """Local folder in which ranks write `checkpoint-N` and `model`."""
    RESUME = "FINETUNE_RESUME"
    """Local folder of the sealed checkpoint to go on from; absent for a fresh start."""
    OUTPUT = "FINETUNE_RANK_OUTPUT"
    """Folder with a FIFO `<local rank>` for what each rank prints; `rank_output.attach` uses it."""


def _relative(name: str) -> str:
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or str(path) != name:
        raise ValueError(f"{name!r} is not a plain relative file name")
    return name


FileName = Annotated[str, AfterValidator(_relative)]
"""A file below its folder: relative, normalised, never above it."""


# --- rank -> its own launch, on loopback -----------------------------------------------------------------------------


class RankProgress(Document):
    """POST /rank/progress, by rank 0, at most once a second. The last value wins; `messages`, `stepSeconds` add up."""

    phase: PodPhase | None = None
    step: int | None = None
    total_steps: int | None = None
    epoch: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    loss_scale: float | None = None
    samples_per_second: float | None = None
    tokens_total: int | None = None
    """Tokens since the start of this attempt."""
    samples_total: int | None = None
    """Rows since the start of this attempt."""
    step_seconds: tuple[float, ...] = ()
    """Duration of each optimizer step since the last report."""
    evaluation: FiniteMetrics | None = None
    precision: str | None = None
    """`fp32`, `fp16` or `bf16`: what training really runs in."""
    messages: tuple[str, ...] = ()


# POST /rank/advanced, without a body: by the first rank of each node but node 0, every few seconds while it makes progress.


class RankCheckpoint(Document):
    """POST /rank/checkpoint, by every rank once its files in `staging/checkpoint-<step>` are written and closed."""

    step: int = Field(ge=0)
    rank: int = Field(ge=0)
    files: tuple[FileName, ...]
    """Files that this rank wrote; no other rank lists them."""
    best: bool = False
    """Whether this is the best one so far by `metric_for_best_model`: rotation never takes the best."""
    problem: str | None = None
    """Why this rank could not write its files: a word for the metric, a colon, and the error."""
    size_bytes: int | None = Field(default=None, ge=0)
    """Approximate size of a checkpoint, where the volume was full."""


class Saved(Document):
    """Answer of node 0 to POST /rank/progress: the newest steps whose checkpoint was sealed or given up."""

    sealed: int | None = None
    given_up: int | None = None
    """Step of a checkpoint that could not be kept; another one is made soon in its place."""


class SealedCheckpoint(Document):
    """GET /rank/checkpoint/<step>: 200 once the checkpoint is sealed and its digests match, else 404 with the reason."""

    path: PodPath


class RankModel(Document):
    """POST /rank/model, by rank 0, for `staging/model`. 200 when sealed; 409 when a newer attempt has begun."""

    files: tuple[FileName, ...]
    step: int
    """Optimizer steps that were trained."""
    evaluation: FiniteMetrics | None = None
    """Metrics of exactly this model: the latest progress report may be about an earlier one."""


class RankResult(Document):
    """POST /rank/result, by every rank, the last thing before `os._exit`."""

    rank: int = Field(ge=0)
    outcome: Outcome
    failure: Failure | None = None
    step: int | None = None
    evaluation: FiniteMetrics | None = None
    messages: tuple[str, ...] = ()


# --- node -> node 0 --------------------------------------------------------------------------------------------------


class NodeHealth(Document):
    """GET /healthz: the node that answers at this address."""

    uid: str
    attempt: int
    node: int
    begun: bool


class Join(Document):
    """POST /peer/join: 204 every few seconds while the attempt has not begun, then 200 with `Begin`."""

    uid: str
    attempt: int
    node: int = Field(ge=0)
    port: int
    """Port of the peer's own `launch`; its address is that of the connection."""
    worker_port: int | None = None
    """Free port for a program that opens one on each node itself."""


class Begin(Document):
    """All that a node needs to start its ranks."""

    begun: datetime
    master_address: str
    master_port: int
    resume: CheckpointRef | None = None
    model: PodPath | None = None
    """A sealed model of this run: there is nothing left to train."""
    workers: tuple[str, ...] = ()
    """`host:port` of each node, node 0 first, for programs that meet without torchrun."""


class FileDigest(Document):
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    not_finite: Annotated[tuple[str, ...], Field(exclude_if=lambda names: not names)] = ()
    """Tensors in the file that hold NaN or infinity; the first few."""


class NodeCheckpoint(Document):
    """POST /peer/checkpoint: the files of all ranks of a node lie in `checkpoint-<step>.partial`, on disk."""

    node: int
    step: int
    files: dict[FileName, FileDigest] = Field(default_factory=dict)
    best: bool = False
    problem: str | None = None
    """Why this node's files are missing: the checkpoint is given up."""
    size_bytes: int | None = Field(default=None, ge=0)
    """Approximate size of the whole checkpoint, where the volume was full."""


class NodeEnded(Document):
    """POST /peer/ended: a node's own record, so that node 0 needs no other evidence of the end."""

    record: ResultRecord


class Superseded(Document):
    """POST /peer/superseded, by node 0 of the attempt that has begun since."""

    attempt: int


__all__ = [
    "Begin",
    "FileDigest",
    "FileName",
    "Join",
    "NodeCheckpoint",
    "NodeEnded",
    "NodeHealth",
    "RankCheckpoint",
    "RankEnv",
    "RankModel",
    "RankProgress",
    "RankResult",
    "Saved",
    "SealedCheckpoint",
    "Superseded",
]
