"""Documents that come out of the pods: `Progress` while they train, a `ResultRecord` at the end, and why something failed."""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Literal

from finetune_trainer.contract.frozen_document import Document, FiniteMetrics, PodPath
from finetune_trainer.contract.prepared import PrepareSummary, Resolved

RESULT_RECORD_MAX_BYTES = 4096
"""Size of a pod's termination message at most: kubelet truncates a longer one."""
TERMINATION_LOG = "/dev/termination-log"
"""File that kubelet reads the termination message from."""


class Exit(IntEnum):
    """Exit codes of `launch` and `prepare`: they are for people, the operator reads the result record."""

    SUCCEEDED = 0
    FAILED = 1
    STOPPED = 143


class PodPhase(StrEnum):
    """Activity of an attempt, as node 0 knows it."""

    WAITING = "waiting"
    """Node 0 waits for the other nodes, or for the attempt before to be over."""
    PREPARING = "preparing"
    STARTING = "starting"
    """Ranks import, load, and build their process group."""
    TRAINING = "training"
    EVALUATING = "evaluating"
    SAVING = "saving"
    DONE = "done"


class Outcome(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    """A SIGTERM ended it."""
    SUPERSEDED = "superseded"
    """A newer attempt has begun; this one left everything as it was."""


class Cause(StrEnum):
    """Cause of a failure: it decides who pays for it."""

    USER = "user"
    """Trying again cannot help: the job fails at once."""
    ERROR = "error"
    """Counts against `backoffLimit`."""
    PREEMPTION = "preemption"
    NODE = "node"
    VOLUME = "volume"
    """The volume failed, or what lies on it was damaged: it passes or is mended from outside, and costs no crash."""


class Reason(StrEnum):
    """Why something failed, in a word that a user can search for. The operator's `plan/resolutions.py` says what to do about it."""

    FILE_NOT_FOUND = "FileNotFound"
    DATA_INVALID = "DataInvalid"
    """Empty, broken or unreadable data; the message names file and line."""
    COLUMN_NOT_FOUND = "ColumnNotFound"
    LABELS_INVALID = "LabelsInvalid"
    MODEL_NOT_FOUND = "ModelNotFound"
    MODEL_NOT_LOADED = "ModelNotLoaded"
    """The model's files are there, and transformers makes no model of them that can do the task."""
    DATASET_NOT_FOUND = "DatasetNotFound"
    ACCESS_DENIED = "AccessDenied"
    """401 or 403 from the Hub."""
    HUB_UNAVAILABLE = "HubUnavailable"
    """The Hub can't be reached, is busy (429), or answers with an error of its own (5xx)."""
    CERTIFICATE_NOT_TRUSTED = "CertificateNotTrusted"
    """Nobody whom the pods trust has signed the certificate of the Hub, of a file's address, or of a proxy before them."""
    REPO_INVALID = "RepoIdInvalid"
    """`publish.repoId` is no repository's name, or belongs to somebody else."""
    REPO_PUBLIC = "RepoIsPublic"
    """The repository is there and public, and `publish.private` is set: nothing is uploaded for all to see."""
    QUOTA_EXCEEDED = "HubQuotaExceeded"
    """The account may not store so much."""
    MODEL_DAMAGED = "ModelDamaged"
    """The sealed model on the volume has changed, or is gone: it is not published."""
    MODEL_TOO_LARGE = "ModelTooLarge"
    """Weights, gradients and optimizer do not fit into a device, whatever the batch."""
    ARGUMENTS_INVALID = "ArgumentsInvalid"
    """The Trainer refused the training arguments."""
    NOT_IN_IMAGE = "NotInImage"
    """The training image lacks a package or a compiler that the job needs."""
    REQUIREMENTS_INVALID = "RequirementsInvalid"
    """The packages that a script requires can't be installed, or not beside those of the training image."""
    SCRIPT_INVALID = "ScriptInvalid"
    """The user's own program is no Python, or does what no pod may do."""
    PREFLIGHT_FAILED = "PreflightFailed"
    """The test of accelerate that a script has asked for did not pass."""
    NOTHING_TRAINED = "NothingTrained"
    """The user's own program has ended with success, and left no model."""
    CHECKPOINT_NOT_FOUND = "CheckpointNotFound"
    """`resumeFrom` asks for a checkpoint, and there is none to resume from."""
    CHECKPOINT_MISMATCH = "CheckpointMismatch"
    PREPARED_DAMAGED = "PreparedDataDamaged"
    """The prepared data on the volume has changed, or is gone: it is prepared again."""
    VOLUME_NOT_WRITABLE = "VolumeNotWritable"
    VOLUME_UNREADABLE = "VolumeUnreadable"
    """Files of the run can't be read: nobody knows whether there is a checkpoint to resume from."""
    VOLUME_FULL = "VolumeFull"
    VOLUME_FAILED = "VolumeFailed"
    """The volume's disk, its server or the way there is away, for a while or for good."""
    VOLUME_UNSUITABLE = "VolumeUnsuitable"
    """The volume can't do what sealing a checkpoint needs, such as renaming folders."""
    NON_FINITE = "NonFiniteLoss"
    OUT_OF_MEMORY = "OutOfMemory"
    RANK_FAILED = "RankFailed"
    """A rank raised an exception; message has its last lines."""
    RANK_KILLED = "RankKilled"
    """A rank ended by a signal."""
    PEER_LOST = "PeerLost"
    """A rank failed because another one did: never the cause."""
    WORLD_SIZE_MISMATCH = "WorldSizeMismatch"
    STOPPED = "Stopped"
    SUPERSEDED = "Superseded"
    INTERNAL = "InternalError"


class CheckpointRef(Document):
    step: int
    path: PodPath
    time: datetime
    attempt: int = 1
    verified: bool = True


class Failure(Document):
    reason: Reason
    cause: Cause
    message: str
    """Explanation in words of the user, with the last lines of a traceback where there is one."""
    node: int | None = None
    rank: int | None = None
    exit_code: int | None = None
    signal: int | None = None


class PublishedModel(Document):
    repo_id: str
    """Name of the repository with its owner, as the Hub writes it."""
    url: str
    """Page of the model."""
    commit: str
    """Commit that holds these files."""


class ResultRecord(Document):
    """How a pod ended. At most `RESULT_RECORD_MAX_BYTES` as JSON in the termination message (`shared.result_record.fit`)."""

    role: Literal["prepare", "train", "publish"]
    uid: str
    attempt: int
    node: int = 0
    outcome: Outcome
    failure: Failure | None = None
    started: datetime
    finished: datetime
    step: int | None = None
    """Last optimizer step that was completed."""
    checkpoint: CheckpointRef | None = None
    """Newest sealed checkpoint (node 0)."""
    model_path: PodPath | None = None
    """The sealed final model (node 0, on success)."""
    evaluation: FiniteMetrics | None = None
    """Metrics of the last evaluation (node 0)."""
    resolved: Resolved | None = None
    hub: PublishedModel | None = None
    """The model on the Hub (publish, on success)."""
    prepared: PrepareSummary | None = None
    """What was prepared (prepare, on success)."""
    messages: tuple[str, ...] = ()
    """What the user should know (a broken checkpoint moved aside, fp16 turned into fp32, rows clamped, ...)."""


class Progress(Document):
    """What node 0's `launch` answers on `/progress`."""

    uid: str
    attempt: int
    begun: datetime | None = None
    """When the attempt began: it wrote its record on the volume then. Null while it waits."""
    waiting_for: str | None = None
    """Nodes that have not come after 10 s: `node 1`, `nodes 1, 3`."""
    phase: PodPhase
    step: int | None = None
    total_steps: int | None = None
    epoch: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    samples_per_second: float | None = None
    eta_seconds: float | None = None
    updated: datetime | None = None
    """When a rank reported last."""
    evaluation: FiniteMetrics | None = None
    checkpoint: CheckpointRef | None = None
    resumed_from: CheckpointRef | None = None
    model_path: PodPath | None = None
    resolved: Resolved | None = None
    prepared: PrepareSummary | None = None
    messages: tuple[str, ...] = ()
    earlier: tuple[ResultRecord, ...] = ()
    """Result records of the attempt before, read from the volume: evidence that the cluster may have deleted."""
