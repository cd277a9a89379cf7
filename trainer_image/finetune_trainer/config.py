"""The contract between who plans a job and what runs in its pods.

`RunConfig` goes in (one JSON document, a file in every pod); `Progress` and `ResultRecord` come out. Pydantic only: the
operator imports this module, so nothing here may import torch, transformers or anything that does input or output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

RESULT_RECORD_MAX_BYTES = 4096
"""A pod's termination message holds no more: kubelet truncates it there."""

PodPath = Annotated[str, Field(pattern=r"^/")]
"""An absolute path as the training pods see it. One function maps it to a folder where pods are local processes."""

Scalar = bool | int | float | str


def _finite(metrics: Any) -> Any:
    if not isinstance(metrics, dict):
        return metrics
    return {
        name: value
        for name, value in metrics.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }


FiniteMetrics = Annotated[dict[str, float], BeforeValidator(_finite)]
"""Names and finite numbers. JSON has no NaN and no infinity: written they become null, which no reader takes for a number, so
that a single one would have the whole document refused. They are left out here; who measured them says so (`left_out`)."""


def left_out(what: str, metrics: Mapping[str, float]) -> str | None:
    """What to tell the user of the metrics that `FiniteMetrics` leaves out; None where all are finite."""
    values = [f"{name} ({value})" for name, value in metrics.items() if not math.isfinite(value)]
    if not values:
        return None
    return f"{what}: {', '.join(values)} {'is no finite number and is' if len(values) == 1 else 'are no finite numbers and are'} left out."


TaskName = Literal[
    "text-classification",
    "token-classification",
    "question-answering",
    "summarization",
    "translation",
    "text-generation",
    "fill-mask",
]
ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
"""As transformers calls them."""


class Document(BaseModel):
    """A frozen JSON document in camelCase, unknown keys refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

    def to_json(self) -> str:
        """The document as JSON: aliases, no nulls, no white space."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


# --- in: what to run ---------------------------------------------------------------------------------------------


class ModelSource(Document):
    name: str
    """Hub id (`google-bert/bert-base-cased`), or an absolute path on a mounted volume."""
    revision: str | None = None
    """Branch, tag or commit on the Hub; null is the Hub's default branch."""


class DatasetSource(Document):
    name: str | None = None
    """Hub id; null where `files` is given."""
    config: str | None = None
    """Configuration (subset) of the Hub dataset."""
    revision: str | None = None
    """Branch, tag or commit on the Hub; null is the Hub's default branch."""
    files: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Split -> absolute paths or globs on mounted volumes, or addresses (`https://`, `hf://`, `s3://`)."""
    field: str | None = None
    """Key of a json document that holds the rows."""
    splits: dict[str, str] = Field(default_factory=dict)
    """`train` / `validation` / `test` -> split in the data, or a slice of it: `train[:10%]`."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Role of the task (`text`, `label`) -> name of the column in the data; `translation.en` is a key within one."""
    label_columns: Annotated[tuple[str, ...], Field(exclude_if=lambda value: not value)] = ()
    """Columns of 0 and 1, one for each label that a text may have; in place of a column with the role `label`."""
    max_samples: dict[str, int] = Field(default_factory=dict)
    """`train` / `validation` / `test` -> rows at most, shuffled with the seed first."""
    validation_fraction: float | None = None
    """Part of the training rows that is held out where there is no validation split."""
    streaming: Annotated[bool, Field(exclude_if=lambda value: not value)] = False
    """Read rows from where they are; only the tokens of those that are taken reach the volume."""


class Preprocessing(Document):
    """How rows become tokens. What is null has the default of the task or the model."""

    max_length: int | None = None
    """Tokens at most per row; null is the model's own limit."""
    max_source_length: int | None = None
    """Summarization, translation: tokens at most of the text that is read."""
    max_target_length: int | None = None
    """Summarization, translation: tokens at most of the text that is written."""
    source_prefix: str | None = None
    """Put before each source text: `summarize: `."""
    source_language: str | None = None
    """Summarization, translation: language of the source, by a multilingual tokenizer's code (`en_XX`, `eng_Latn`)."""
    target_language: str | None = None
    """Summarization, translation: language of the target; generation is forced to begin with it."""
    padding: Annotated[Literal["longest", "max_length"], Field(exclude_if=lambda value: value == "longest")] = "longest"
    """To the longest row of the batch, or always to the limit."""
    truncation_side: Literal["left", "right"] | None = None
    """Which end of a long text is cut; null is the tokenizer's own."""
    stride: int | None = None
    """Question answering: tokens that the windows of a long context share."""
    packing: bool | None = None
    """Text generation, fill-mask: fill rows up with several texts; null is the task's default."""
    whole_word_mask: Annotated[bool, Field(exclude_if=lambda value: not value)] = False
    """Fill-mask: mask all tokens of a word."""
    mask_probability: float | None = None
    """Fill-mask: share of the tokens that are masked; null is 0.15."""
    num_proc: int | None = None
    """Processes that tokenise; null is one for each core."""


LEARNING_RATE, LORA_LEARNING_RATE = 5e-5, 2e-4
"""Where the job gives none: that of transformers for all weights; for adapters, which begin at zero, that of the QLoRA paper."""


class Peft(Document):
    """Train an adapter in place of all weights."""

    method: Literal["lora"] = "lora"
    r: int = 8
    """Rank of the update matrices."""
    alpha: float | None = None
    """Scale of the update; null is twice `r`."""
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ()
    """Names of the modules that get adapters, or `all-linear`; empty is peft's choice for the architecture, which is
    all of them where it has none."""
    save_merged: bool = False
    """Leave a plain model with the adapter merged into it, not the adapter."""


class Quantization(Document):
    bits: Literal[4] = 4
    """The base model's weights in four bits (NF4): with `peft`, on CUDA only."""


class EarlyStopping(Document):
    patience: int = 1
    """Evaluations without improvement after which training ends."""
    threshold: float = 0.0
    """Improvement that counts as one."""


class Hub(Document):
    endpoint: str | None = None
    """Base address of the Hub or of a mirror; null is the library's default."""
    token_file: PodPath | None = None
    """File that holds the token, mounted only in the pods that talk to the Hub."""


class Publish(Document):
    """Where the finished model goes."""

    repo_id: str
    """Repository on the Hub: `me/yelp-bert`; without an owner, the token's account."""
    private: bool | None = None
    """Visibility of a repository that is made; null is the account's default. A public one that is there is refused."""
    revision: str = "main"
    """Branch to commit to; made where it is not there."""
    commit_message: str | None = None
    """First line of the commit; null is one that names the job."""
    deadline_seconds: int = 86400
    """How long what may pass (the Hub is down, or busy) is tried again."""


class RunConfig(Document):
    """Everything that the pods of a job must know. The same for every attempt and every role, so it is content-addressed."""

    schema_version: Literal[1] = 1
    namespace: str
    job: str
    """`metadata.name` of the FineTuneJob."""
    uid: str
    """`metadata.uid` of the FineTuneJob: the identity of a run on the volume."""
    task: TaskName
    problem_type: ProblemType | None = None
    """Text classification: what a label is; null is one class of several."""
    model: ModelSource
    dataset: DatasetSource
    preprocessing: Preprocessing = Preprocessing()
    training_arguments: dict[str, Scalar | dict[str, Scalar | None] | list[str] | None] = Field(default_factory=dict)
    """What the user gave, under the pinned release's names (older names are translated by the planner)."""
    peft: Peft | None = None
    quantization: Quantization | None = None
    early_stopping: EarlyStopping | None = None
    loss_weights: Literal["balanced"] | None = None
    """Classification: weigh classes by the inverse of how often they occur."""
    nodes: int = Field(ge=1)
    processes_per_node: int = Field(ge=1)
    accelerators: bool
    """Whether the pods were given accelerators. Without, training runs on the CPU with gloo, in fp32."""
    device_memory_bytes: int | None = None
    """Memory of each accelerator, at most; null where nobody knows before a rank asks it."""
    output: PodPath
    """Where the job's claim is mounted. The layout below it is `finetune_trainer.volume`'s."""
    checkpoint_interval_seconds: int = 600
    resume_from: str = "auto"
    """`auto`, `required` (as `auto`, but never anew where there was a checkpoint), `never`, or an absolute path of one."""
    prepare: Literal["job", "inline"]
    """`job`: a Job before training prepares. `inline`: node 0 of the attempt does, beside the ranks' imports."""
    peers: str | None = None
    """Address of node i as a format with `{attempt}` and `{node}`, e.g. `yelp-train-{attempt}-{node}.yelp:8080`; null for one node."""
    port: int = 8080
    """Port of `launch` in a pod: /metrics, /progress, /healthz, and what nodes tell each other."""
    grace_period_seconds: int = 30
    """`terminationGracePeriodSeconds` of the pods."""
    hub: Hub = Hub()
    publish: Publish | None = None

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.nodes * self.processes_per_node


class Env(StrEnum):
    """Environment variables that `launch` and `prepare` read; the planner (or the local backend) sets them."""

    CONFIG = "FINETUNE_CONFIG"
    """Path of the RunConfig file, as the process itself sees it."""
    ATTEMPT = "FINETUNE_ATTEMPT"
    """Number of the attempt (prepare: number of the try), from 1."""
    FIRST_ATTEMPT = "FINETUNE_FIRST_ATTEMPT"
    """Number of the first attempt since the job was made or tried again by hand: where node 0 prepares, it looks at model and
    data anew in each such round, and goes on with what it has prepared within one."""
    NODE = "JOB_COMPLETION_INDEX"
    """Index of the node, from 0; set by Kubernetes in the pods of an Indexed Job."""
    PEERS = "FINETUNE_PEERS"
    """`host:port,host:port,...`, node 0 first: overrides `RunConfig.peers` and `port` where the nodes share one host."""
    TERMINATION_LOG = "FINETUNE_TERMINATION_LOG"
    """File that receives the result record; default /dev/termination-log."""
    PATHS = "FINETUNE_PATHS"
    """JSON object of PodPath prefix -> folder, where pods are local processes; absent in a real pod."""
    CHECKPOINT_STEP = "FINETUNE_CHECKPOINT_STEP"
    """Training: step of the newest checkpoint that this job has sealed, as far as the operator knows; absent before the
    first one."""
    DEADLINE = "FINETUNE_DEADLINE"
    """Publish: the moment (RFC 3339) until which it is tried; absent, `Publish.deadline_seconds` from its start."""
    OTHER_IMAGE = "FINETUNE_OTHER_IMAGE"
    """Prepare: the image that the job runs in, where this process runs outside it (`finetune validate --deep`)."""


class Exit(IntEnum):
    """Exit codes of `launch` and `prepare`: they tell a person something, the operator reads the record."""

    SUCCEEDED = 0
    FAILED = 1
    STOPPED = 143


# --- out: what happened ------------------------------------------------------------------------------------------


class PodPhase(StrEnum):
    """What an attempt is doing, as node 0 knows it."""

    WAITING = "waiting"
    """For the other nodes, or for the attempt before to be over."""
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
    """Ended by SIGTERM."""
    SUPERSEDED = "superseded"
    """A newer attempt has begun; this one left everything as it was."""


class Cause(StrEnum):
    """Who pays for a failure."""

    USER = "user"
    """Trying again cannot help: the job fails at once."""
    ERROR = "error"
    """Counts against `backoffLimit`."""
    PREEMPTION = "preemption"
    NODE = "node"
    VOLUME = "volume"
    """The volume failed, or what lies on it was damaged: it passes or is mended from outside, and costs no crash."""


class Reason(StrEnum):
    """Why something failed, in a word that a user can search for. `DIAGNOSIS` in the operator adds what to do."""

    FILE_NOT_FOUND = "FileNotFound"
    DATA_INVALID = "DataInvalid"
    """Empty, broken or unreadable data; the message names file and line."""
    COLUMN_NOT_FOUND = "ColumnNotFound"
    LABELS_INVALID = "LabelsInvalid"
    MODEL_NOT_FOUND = "ModelNotFound"
    MODEL_NOT_LOADED = "ModelNotLoaded"
    """Its files are there, and transformers makes no model of them that can do the task."""
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
    """The sealed model on the volume is not what was sealed, or not there: it is not published."""
    MODEL_TOO_LARGE = "ModelTooLarge"
    """Weights, gradients and optimizer do not fit into a device, whatever the batch."""
    ARGUMENTS_INVALID = "ArgumentsInvalid"
    """The Trainer refused the training arguments."""
    NOT_IN_IMAGE = "NotInImage"
    """The training image lacks a package or a compiler that the job needs."""
    CHECKPOINT_NOT_FOUND = "CheckpointNotFound"
    """`resumeFrom` asks for a checkpoint, and there is none that can be gone on from."""
    CHECKPOINT_MISMATCH = "CheckpointMismatch"
    PREPARED_DAMAGED = "PreparedDataDamaged"
    """The prepared data on the volume is not what prepare left there, or gone: it is prepared again."""
    VOLUME_NOT_WRITABLE = "VolumeNotWritable"
    VOLUME_UNREADABLE = "VolumeUnreadable"
    """What the run has left can't be read: whether there is something to go on from is not known."""
    VOLUME_FULL = "VolumeFull"
    VOLUME_FAILED = "VolumeFailed"
    """Its disk, its server or the way there is away, for a while or for good."""
    VOLUME_UNSUITABLE = "VolumeUnsuitable"
    """It can't do what a checkpoint needs to be sealed: rename folders, for one."""
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
    """In the user's words, last lines of the traceback where there is one."""
    node: int | None = None
    rank: int | None = None
    exit_code: int | None = None
    signal: int | None = None


class ResultRecord(Document):
    """How a pod ended. At most `RESULT_RECORD_MAX_BYTES` as JSON (`message` is shortened to fit)."""

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


class PublishedModel(Document):
    repo_id: str
    """With its owner, as the Hub names it."""
    url: str
    """Page of the model."""
    commit: str
    """Commit that holds these files."""


class Resolved(Document):
    model_revision: str | None = None
    """Commit on the Hub."""
    dataset_revision: str | None = None
    """Commit on the Hub."""
    precision: str | None = None
    """`fp32`, `fp16` or `bf16`: what training really ran in."""


class TokenLengths(Document):
    """Tokens per training row."""

    median: int
    p95: int
    longest: int


class PrepareSummary(Document):
    """What was prepared, short enough for a status."""

    train_rows: int
    validation_rows: int | None = None
    test_rows: int | None = None
    dropped_rows: int = 0
    """Rows of the data that were left out; the report says why."""
    truncated_share: float | None = None
    """Share of the training rows that lost tokens to a limit."""
    token_lengths: TokenLengths | None = None
    labels: tuple[str, ...] = ()
    majority_share: float | None = None
    """Share of the commonest label among the validation rows (else the training rows): the accuracy of guessing."""

    @property
    def text(self) -> str:
        """As a sentence of a condition: `1,000 train and 200 validation rows, ...`."""
        counts = {"train": self.train_rows, "validation": self.validation_rows, "test": self.test_rows}
        told = [f"{count:,} {role}" for role, count in counts.items() if count is not None]
        said = [f"{', '.join(told[:-1])} and {told[-1]} rows" if told[1:] else f"{told[0]} rows"]
        if self.dropped_rows:
            said.append(f"{self.dropped_rows:,} left out")
        if self.token_lengths is not None:
            said.append(f"median {self.token_lengths.median:,} tokens, 95 % up to {self.token_lengths.p95:,}")
        if self.truncated_share:
            said.append(f"{self.truncated_share:.1%} of the train rows cut")
        if self.labels:
            said.append(f"{len(self.labels)} labels")
        return ", ".join(said)


class SplitReport(Document):
    """One prepared split, as the log and the report tell it."""

    rows: int
    """Of the data, as they were taken."""
    sequences: int | None = None
    """Rows that the model reads, where they are not as many: windows of long contexts, packed texts."""
    dropped: dict[str, int] = Field(default_factory=dict)
    """Why -> rows that were left out."""
    truncated: int = 0
    """Rows that lost tokens to a limit."""
    truncated_targets: int = 0
    """Rows whose target did."""
    lengths: dict[str, int] = Field(default_factory=dict)
    """Percentile (`p50`, `p90`, `p95`, `p99`, `max`) -> tokens."""
    labels: dict[str, int] = Field(default_factory=dict)
    """Label -> rows (tokens, where tokens have labels)."""
    example: str | None = None
    """The first row decoded back to text, as the model sees it."""


class Prepared(Document):
    """What `prepare` leaves at `<run>/prepared.json` for the ranks."""

    config_digest: str
    """SHA-256 of the parts of the RunConfig that it was made from: another digest means prepare again."""
    data: PodPath
    """Folder with the tokenised splits as Arrow files."""
    data_digest: str | None = None
    """Of the rows that are learnt from, in their order, and the names of the classes: what a checkpoint belongs to."""
    model: PodPath
    """Folder to load model and tokenizer from, offline."""
    model_digest: str | None = None
    """Tells one base model from another, whatever they are called."""
    first_attempt: int | None = None
    """Of the round of attempts in which node 0 looked at model and data; null where a prepare Job did."""
    label_names: tuple[str, ...]
    """Class names by label id."""
    label_counts: tuple[int, ...] = ()
    """Training rows (tokens) of each label, by label id."""
    summary: PrepareSummary
    splits: dict[str, SplitReport] = Field(default_factory=dict)
    """Role of the split -> what was prepared of it."""
    resolved: Resolved = Resolved()
    messages: tuple[str, ...] = ()
    """What the user should know: rows clamped, texts truncated, ..."""
    content_digest: str | None = None
    """Of all the rest, in the file: one that has changed on the volume is not believed."""


class Evaluation(Document):
    """One evaluation during training."""

    step: int
    epoch: float
    loss: float | None = None
    """Training loss as last logged before it."""
    metrics: FiniteMetrics
    """Without the `eval_` of the Trainer's names."""


class TrainingReport(Document):
    """What rank 0 leaves beside the final model, sealed with it (`REPORT_FILE`): what the model card is made from."""

    task: str
    started: datetime
    """Of the attempt that finished."""
    finished: datetime
    steps: int
    epochs: float
    world_size: int
    global_batch_size: int
    """Rows per optimizer step, all ranks and accumulation steps together."""
    precision: str
    hardware: str
    """`2 x NVIDIA H200`, `CPU (2 ranks)`."""
    versions: dict[str, str]
    """Package -> version: transformers, torch, datasets, tokenizers, accelerate."""
    training_arguments: dict[str, Any]
    """Arguments that differ from the defaults of transformers, by their own names; nothing of the system's and no secret."""
    evaluations: tuple[Evaluation, ...] = ()
    """Oldest first; those of the attempts before the resume are among them."""
    evaluation: FiniteMetrics | None = None
    """The last one's metrics: what `status.evaluation` shows."""
    kept_step: int | None = None
    """Step of the weights that were saved: an earlier one than `steps` where the best checkpoint was kept."""
    summary: PrepareSummary | None = None
    splits: dict[str, SplitReport] = Field(default_factory=dict)
    """What was prepared, split by split."""
    test: FiniteMetrics | None = None
    """Metrics of the test split."""
    details: dict[str, Any] = Field(default_factory=dict)
    """What a task tells beside its metrics: `confusionMatrix`, `perLabel`, ..."""
    resolved: Resolved = Resolved()


REPORT_FILE = "finetune-report.json"
"""Name of the `TrainingReport` in the folder of a sealed model. Never uploaded."""

PREDICTIONS_FILE = "predictions.jsonl"
"""Inputs, predictions and references of the test split, in the folder of a sealed model. Never uploaded."""


class Progress(Document):
    """What node 0's `launch` answers on `/progress`."""

    uid: str
    attempt: int
    begun: datetime | None = None
    """When the attempt began: it wrote its mark on the volume. Null while it waits."""
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


ResultRecord.model_rebuild()
