"""`FineTuneJob.status`: what the operator observed. Written by the operator alone, read by people and by tools."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field
from pydantic.config import JsonDict

from finetune_operator.api.api_model import ApiModel

_BY_TYPE: JsonDict = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
"""A list that holds each condition once."""


class Phase(StrEnum):
    PENDING = "Pending"
    PREPARING = "Preparing"
    STARTING = "Starting"
    RUNNING = "Running"
    RESTARTING = "Restarting"
    PUBLISHING = "Publishing"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class ConditionType(StrEnum):
    VALIDATED = "Validated"
    PREPARED = "Prepared"
    RUNNING = "Running"
    PUBLISHED = "Published"
    COMPLETE = "Complete"
    FAILED = "Failed"
    CHECKPOINT_LOST = "CheckpointLost"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Condition(ApiModel):
    type: ConditionType
    """Name of the condition."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: str
    """Why, in one CamelCase word."""
    message: str
    """Why, in a sentence that says what to do."""
    last_transition_time: datetime
    """When `status` changed last."""
    observed_generation: int
    """Generation of the spec that this is about."""


class Restarts(ApiModel):
    preemption: int = 0
    """Restarts after pods were evicted, preempted or deleted; they are free."""
    node: int = 0
    """Restarts after a node was lost; they are free."""
    error: int = 0
    """Restarts after crashes; those of attempts that sealed no new checkpoint count against `backoffLimit`."""
    volume: int = 0
    """Restarts because the volume failed, or what lay on it was damaged; they are free."""


class Nodes(ApiModel):
    desired: int
    """Nodes asked for."""
    ready: int
    """Nodes whose training container runs, or has succeeded."""


class Summary(ApiModel):
    """Texts for the printer columns of `kubectl get`."""

    reason: str | None = None
    """Why the job waits or has failed, in one CamelCase word: `ClaimNotFound`, `OutOfMemory`. Nothing while all is
    well."""
    nodes: str | None = None
    """Ready and desired nodes: `2/2`."""
    steps: str | None = None
    """Completed and total steps: `120/375`."""
    loss: str | None = None
    """Training loss: `0.6132`."""
    eta: str | None = None
    """Time left: `41s`."""
    restarts: str | None = None
    """Restarts of all causes."""
    dataset: str | None = None
    """The dataset, short."""


class ProgressStatus(ApiModel):
    step: int | None = None
    """Completed optimizer steps."""
    total_steps: int | None = None
    """Optimizer steps in all."""
    epoch: float | None = None
    """Completed epochs."""
    percent: int | None = None
    """Completed share of the steps."""
    loss: float | None = None
    """Training loss as last logged."""
    samples_per_second: float | None = None
    """Training rows per second, all ranks together."""
    eta_seconds: int | None = None
    """Estimated seconds to the last step."""
    updated: datetime | None = None
    """When the training pods reported last."""


class Checkpoint(ApiModel):
    step: int
    """Step of the newest sealed checkpoint."""
    time: datetime | None = None
    """When it was sealed."""
    path: str
    """Where it lies, as the training pods see it."""
    verified: bool = True
    """Whether its manifest was complete when it was sealed or last read."""


class ResolvedStatus(ApiModel):
    model_revision: str | None = None
    """Commit of the model on the Hub."""
    dataset_revision: str | None = None
    """Commit of the dataset on the Hub."""
    image: str | None = None
    """Image of the training pods, by digest once they run."""
    precision: str | None = None
    """Precision that training really runs in."""


class ClaimStatus(ApiModel):
    name: Annotated[str, Field(max_length=253)]
    """Claim that the job writes to."""
    access_mode: Annotated[str, Field(max_length=32)] | None = None
    """Its access mode, fixed once made."""


class HubModel(ApiModel):
    repo_id: str
    """Repository, with its owner."""
    url: str
    """Page of the model."""
    commit: str
    """Commit that holds the files of this model."""


class ModelStatus(ApiModel):
    claim_name: str
    """Claim that holds the model."""
    path: str
    """Folder of the model within the claim."""
    hub: HubModel | None = None
    """The model on the Hub, once it is published."""


class FailureStatus(ApiModel):
    reason: str
    """Why, in one CamelCase word."""
    attempt: int | None = None
    """Attempt that failed."""
    node: int | None = None
    """Index of the node where it began."""
    rank: int | None = None
    """Rank where it began."""
    exit_code: int | None = None
    """Exit code of the training container or rank."""
    message: str
    """What happened, with the last lines of the error."""
    resolution: str
    """What to do about it."""


class Budget(ApiModel):
    """Where the present round of attempts began: raising `spec.retry` begins another."""

    retry: int = 0
    """`spec.retry` of this round."""
    first_attempt: int = 1
    """First attempt of this round."""
    errors_before: int = 0
    """Crashes that are no longer counted: of earlier rounds, and those before the last new checkpoint."""
    checkpoint_step: int = 0
    """Furthest step of which a checkpoint was sealed."""
    checkpoint_attempt: int = 0
    """Attempt that sealed it."""
    started: datetime | None = None
    """When this round began; `activeDeadlineSeconds` counts from here."""
    first_prepare: int = 1
    """First prepare Job of this round."""
    prepare_errors: int = 0
    """Prepare Jobs of this round that ended by an error worth another try."""
    quick_edits: int = 0
    """Prepare Jobs in a row that an edit of the spec replaced soon after they were made: the more, the longer the next one
    waits."""
    last_made: datetime | None = None
    """When the newest prepare or publish Job was made; the pause before the next one counts from there where nothing
    else tells when that one ended."""
    settled_attempt: int = 0
    """Last attempt whose end has been accounted for in `restarts`."""
    fruitless: int = 0
    """Attempts in a row that ended without a step beyond `furthestStep`: the more, the longer the next one waits."""
    furthest_step: int = 0
    """Furthest step that an ended attempt had reached."""
    first_publish: int = 1
    """First publish Job of this round of publishing."""
    publish_started: datetime | None = None
    """When this round of publishing began; `publish.deadlineSeconds` counts from here."""


class FineTuneJobStatus(ApiModel):
    """What the operator observed."""

    observed_generation: int | None = None
    """Generation of the spec that this status is about."""
    operator: Annotated[str, Field(pattern=r"^[^/]+/[^/]+$", max_length=317)] | None = None
    """The operator that serves the job, by the `namespace/name` of the Lease by which it leads. Others leave the job alone as
    long as that Lease is renewed."""
    phase: Phase | None = None
    """Where the job stands."""
    conditions: Annotated[tuple[Condition, ...], Field(json_schema_extra=_BY_TYPE)] = ()
    """The same in detail, for people and tools."""
    prepare_attempt: int | None = None
    """Number of the present (or last) prepare Job."""
    attempt: int | None = None
    """Number of the present (or last) training attempt."""
    publish_attempt: int | None = None
    """Number of the present (or last) publish Job."""
    attempt_started: datetime | None = None
    """When the pods of the present attempt were created."""
    attempt_begun: datetime | None = None
    """When the present attempt began: all its nodes had met and the attempt before was over."""
    attempt_ended: datetime | None = None
    """When the present attempt fell or was given up, while the next one is not there yet."""
    restarts: Restarts = Restarts()
    """Restarts by cause."""
    budget: Budget = Budget()
    """Where counting against `backoffLimit` began."""
    nodes: Nodes | None = None
    """Nodes of the present attempt."""
    summary: Summary | None = None
    """Texts for `kubectl get`."""
    progress: ProgressStatus | None = None
    """How far training has come."""
    evaluation: dict[str, float] | None = None
    """Metrics of the newest evaluation."""
    checkpoint: Checkpoint | None = None
    """Newest sealed checkpoint that training can go on from."""
    resumed_from: Checkpoint | None = None
    """Checkpoint that the present attempt went on from."""
    resolved: ResolvedStatus | None = None
    """What names and defaults turned out to be."""
    claim: ClaimStatus | None = None
    """Where checkpoints and the model go."""
    model: ModelStatus | None = None
    """The trained model."""
    failure: FailureStatus | None = None
    """Why the job failed, or the last attempt did."""
    messages: tuple[str, ...] = ()
    """What a user should know: values clamped, precision changed, checkpoints moved aside."""
    start_time: datetime | None = None
    """When the operator first accepted the job."""
    completion_time: datetime | None = None
    """When the job succeeded or failed."""
