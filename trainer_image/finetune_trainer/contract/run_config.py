"""What goes into every pod: `RunConfig`, one JSON document in a file, and the environment variables beside it."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from finetune_trainer.contract.effects import LEARNING, RESOLVED, ROWS, Effect
from finetune_trainer.contract.frozen_document import Document, PodPath, Scalar
from finetune_trainer.contract.script import Launcher, Script
from finetune_trainer.contract.task_facts import ProblemType, TaskName

PORT = 8080
"""Port of `launch` in every training pod."""


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
    revision: Annotated[str | None, RESOLVED] = None
    """Branch, tag or commit on the Hub; null is the Hub's default branch."""
    files: Annotated[dict[str, tuple[str, ...]], RESOLVED] = Field(default_factory=dict)
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
    """Whether rows are streamed from their source: only the tokens of the rows that are taken reach the volume."""


class Preprocessing(Document):
    """How rows become tokens. What is null has the default of the task or the model."""

    max_length: int | None = None
    """Tokens at most per row; null is the model's own limit."""
    max_source_length: int | None = None
    """Summarization, translation: tokens at most of the text that is read."""
    max_target_length: int | None = None
    """Summarization, translation: tokens at most of the text that is written."""
    source_prefix: str | None = None
    """Words before each source text: `summarize: `."""
    source_language: str | None = None
    """Summarization, translation: language of the source, by a multilingual tokenizer's code (`en_XX`, `eng_Latn`)."""
    target_language: str | None = None
    """Summarization, translation: language of the target; generation is forced to begin with it."""
    padding: Annotated[
        Literal["longest", "max_length"], Field(exclude_if=lambda value: value == "longest"), LEARNING
    ] = "longest"
    """How far rows are filled up: to the longest of the batch, or always to the limit."""
    truncation_side: Literal["left", "right"] | None = None
    """Which end of a long text is cut; null is the tokenizer's own."""
    stride: int | None = None
    """Question answering: tokens that the windows of a long context share."""
    packing: bool | None = None
    """Text generation, fill-mask: fill rows up with several texts; null is the task's default."""
    whole_word_mask: Annotated[bool, Field(exclude_if=lambda value: not value)] = False
    """Fill-mask: mask all tokens of a word."""
    mask_probability: Annotated[float | None, LEARNING] = None
    """Fill-mask: share of the tokens that are masked; null is 0.15."""
    num_proc: Annotated[int | None, LEARNING] = None
    """Processes that tokenise; null is one for each core."""


LEARNING_RATE, LORA_LEARNING_RATE = 5e-5, 2e-4
"""Learning rate where the job gives none: that of transformers; for adapters, which begin at zero, that of the QLoRA paper."""


class Peft(Document):
    """Adapter that is trained in place of all weights."""

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
    """Whether the result is a plain model with the adapter merged into it, not the adapter."""


class Quantization(Document):
    bits: Literal[4] = 4
    """The base model's weights in four bits (NF4): with `peft`, on CUDA only."""


class EarlyStopping(Document):
    patience: int = 1
    """Evaluations without improvement after which training ends."""
    threshold: float = 0.0
    """Improvement that counts as one."""


class HubSettings(Document):
    endpoint: Annotated[str | None, Effect.CHECKS] = None
    """Base address of the Hub or of a mirror; null is the library's default."""
    token_file: Annotated[PodPath | None, Effect.NOTHING] = None
    """File that holds the token, mounted only in the pods that talk to the Hub."""


class Publish(Document):
    """Target of the finished model on the Hub."""

    repo_id: str
    """Repository on the Hub: `me/yelp-bert`; without an owner, the token's account."""
    private: bool | None = None
    """Visibility of a repository that is made; null is the account's default. A public one that is there is refused."""
    revision: str = "main"
    """Branch to commit to; made where it is not there."""
    commit_message: str | None = None
    """First line of the commit; null is one that names the job."""
    deadline_seconds: int = 86400
    """Seconds in which publishing is tried again while the Hub is down or busy."""


class RunConfig(Document):
    """Everything that the pods of a job must know. The same for every attempt and every role, so it is content-addressed.

    It has a task, a model and a dataset (`TaskConfig`), or a script (`ScriptConfig`). What holds for both takes this class.
    """

    schema_version: Annotated[Literal[1], Effect.TRAINING] = 1
    namespace: Annotated[str, Effect.NOTHING]
    job: Annotated[str, Effect.TRAINING]
    """`metadata.name` of the FineTuneJob."""
    uid: Annotated[str, Effect.NOTHING]
    """`metadata.uid` of the FineTuneJob: the identity of a run on the volume."""
    task: Annotated[TaskName | None, ROWS] = None
    """Null where `script` is given."""
    problem_type: Annotated[ProblemType | None, ROWS] = None
    """Text classification: what a label is; null is one class of several."""
    model: Annotated[ModelSource | None, RESOLVED] = None
    """A script may do without."""
    dataset: Annotated[DatasetSource | None, ROWS] = None
    """A script may do without."""
    preprocessing: Annotated[Preprocessing, ROWS] = Preprocessing()
    training_arguments: Annotated[dict[str, Scalar | dict[str, Scalar | None] | list[str] | None], LEARNING] = Field(
        default_factory=dict
    )
    """Arguments that the user gave, under the pinned release's names (the operator translates older names)."""
    peft: Annotated[Peft | None, LEARNING] = None
    quantization: Annotated[Quantization | None, LEARNING] = None
    early_stopping: Annotated[EarlyStopping | None, LEARNING] = None
    loss_weights: Annotated[Literal["balanced"] | None, LEARNING] = None
    """Classification: weigh classes by the inverse of how often they occur."""
    nodes: Annotated[int, Field(ge=1), Effect.RANKS]
    processes_per_node: Annotated[int, Field(ge=1), Effect.RANKS]
    accelerators: Annotated[bool, Effect.NOTHING]
    """Whether the pods were given accelerators. Without, training runs on the CPU with gloo, in fp32."""
    device_memory_bytes: Annotated[int | None, Effect.NOTHING] = None
    """Memory of each accelerator, at most; null where nobody knows before a rank asks it."""
    output: Annotated[PodPath, Effect.NOTHING]
    """Where the job's claim is mounted. The layout below it is that of `finetune_trainer.shared.volume`."""
    checkpoint_interval_seconds: Annotated[int, Effect.NOTHING] = 600
    resume_from: Annotated[str, Effect.NOTHING] = "auto"
    """`auto`, `required` (as `auto`, but never anew where there was a checkpoint), `never`, or an absolute path of one."""
    prepare: Annotated[Literal["job", "inline", "none"], Effect.NOTHING]
    """`job`: a Job before training prepares. `inline`: node 0 of the attempt does, beside the ranks' imports. `none`: a script
    needs nothing that is prepared."""
    peers: Annotated[str | None, Effect.NOTHING] = None
    """Address of node i as a format with `{attempt}` and `{node}`, e.g. `yelp-train-{attempt}-{node}.yelp:8080`; null for one node."""
    port: Annotated[int, Effect.NOTHING] = PORT
    """Port of `launch` in a pod: /metrics, /progress, /healthz, and what nodes tell each other."""
    grace_period_seconds: Annotated[int, Effect.NOTHING] = 30
    """`terminationGracePeriodSeconds` of the pods."""
    hub: HubSettings = HubSettings()
    publish: Annotated[Publish | None, Effect.NOTHING] = None
    script: Annotated[Script | None, Field(exclude_if=lambda value: value is None), LEARNING] = None
    """The user's own program in place of `task`."""

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.nodes * self.processes_per_node

    @property
    def launcher(self) -> Launcher:
        """Program that starts the ranks."""
        return self.script.launcher if self.script is not None else Launcher.TORCHRUN

    @property
    def rank_command(self) -> str:
        """Command of this package that each rank runs."""
        return "train" if self.script is None else "script"


class TaskConfig(RunConfig):
    """The run config of a task."""

    task: Annotated[TaskName, ROWS]
    model: Annotated[ModelSource, RESOLVED]
    dataset: Annotated[DatasetSource, ROWS]


class ScriptConfig(RunConfig):
    """The run config of a user's own program."""

    script: Annotated[Script, LEARNING]


def parse_run_config(text: str | bytes) -> TaskConfig | ScriptConfig:
    """Parse a run config. Raises ValueError for one that is neither of a task nor of a script."""
    kind = ScriptConfig if "script" in json.loads(text) else TaskConfig
    return kind.model_validate_json(text)


class Env(StrEnum):
    """Environment variables that `launch` and `prepare` read; the operator (or the local backend) sets them."""

    CONFIG = "FINETUNE_CONFIG"
    """Path of the RunConfig file, as the process itself sees it."""
    ATTEMPT = "FINETUNE_ATTEMPT"
    """Number of the attempt (prepare: number of the try), from 1."""
    FIRST_ATTEMPT = "FINETUNE_FIRST_ATTEMPT"
    """Number of the first attempt since the job was made or tried again by hand: where node 0 prepares, it checks model and
    data again in each such round, and within a round goes on with the data that it has prepared."""
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
