"""`FineTuneJob.spec`: what a user writes. Every docstring under a field is what `kubectl explain` prints."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.config import JsonDict

from finetune_operator.api.api_model import ApiModel, Name
from finetune_operator.api.dataset_spec import Dataset, PreprocessingSpec
from finetune_operator.api.methods import EarlyStoppingSpec, PeftSpec, QuantizationSpec
from finetune_operator.api.mutability import FIXED, NEW_JOB, PUBLISHING, Decides, Immutable, Mutable
from finetune_operator.api.script_spec import ScriptSpec
from finetune_operator.api.training_arguments import TrainingArguments
from finetune_trainer.contract.task_facts import ProblemType, TaskName

Quantity = Annotated[int | str, Field(json_schema_extra={"x-kubernetes-int-or-string": True, "maxLength": 32})]
"""A Kubernetes quantity such as `2`, `500m` or `50Gi`."""

_BY_NAME: JsonDict = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
"""A list that is merged by name, each name once."""
MAX_SECONDS = 2_147_483_647
"""Longest duration, sixty-eight years: its sum with a date is still within a calendar's range."""
Seconds = Annotated[int, Field(ge=1, le=MAX_SECONDS)]
GraceSeconds = Annotated[int, Field(ge=1, le=86400)]
RanksPerNode = Annotated[int, Field(ge=1, le=64)]
ImageName = Annotated[str, Field(min_length=1, max_length=1024)]


class ModelSpec(ApiModel):
    name: Annotated[str, Field(min_length=1, max_length=1024)]
    """Model on the Hub (`google-bert/bert-base-cased`), or the absolute path of a folder with one, on a mounted
    volume or in the image."""
    revision: Name | None = None
    """Branch, tag or commit on the Hub; resolved to a commit before training and recorded in status. Default: the
    Hub's default branch."""


class SecretKeyRef(ApiModel):
    name: Name
    """Name of a Secret in the job's namespace."""
    key: Name
    """Key within the Secret."""


class ConfigMapKeyRef(ApiModel):
    name: Name
    """Name of a ConfigMap in the job's namespace."""
    key: Name
    """Key within the ConfigMap."""


class EnvVarSource(ApiModel):
    secret_key_ref: SecretKeyRef | None = None
    """Take the value from a key of a Secret."""
    config_map_key_ref: ConfigMapKeyRef | None = None
    """Take the value from a key of a ConfigMap."""


class EnvVar(ApiModel):
    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=256)]
    """Name of the environment variable."""
    value: Annotated[str, Field(max_length=32768)] | None = None
    """Value as it is. Exactly one of `value` and `valueFrom`."""
    value_from: EnvVarSource | None = None
    """Where the value comes from. Exactly one of `value` and `valueFrom`."""


class Volume(ApiModel):
    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=40)]
    """Name of the volume, unique within the job."""
    mount_path: Annotated[str, Field(pattern=r"^/.", max_length=1024)]
    """Where the pods see it: `/data`. Not at, above or below a path of the system's: /output, /etc/finetune, /tmp,
    /dev, /var/run/finetune."""
    sub_path: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Folder within the volume to mount in place of its root."""
    read_only: bool = False
    """Mount without write access."""
    claim_name: Name | None = None
    """A PersistentVolumeClaim of the job's namespace. Exactly one of `claimName`, `configMap` and `secret`."""
    config_map: Name | None = None
    """A ConfigMap of the job's namespace, a file per key."""
    secret: Name | None = None
    """A Secret of the job's namespace, a file per key."""


class Resources(ApiModel):
    limits: Annotated[dict[str, Quantity], Field(max_length=16)] = Field(default_factory=dict)
    """Upper bounds per node (pod), accelerators among them: `{nvidia.com/gpu: 8, memory: 64Gi}`. Accelerators are
    given out whole; of parts of them (`nvidia.com/gpu.shared`, `nvidia.com/mig-1g.10gb`) a pod takes one. Those that a
    cluster gives out by ResourceClaims are named in `template`."""
    requests: Annotated[dict[str, Quantity], Field(max_length=16)] = Field(default_factory=dict)
    """What the scheduler reserves per node (pod), at most the limits; default: the limits."""


class Storage(ApiModel):
    size: Quantity | None = None
    """Size of the claim to make: `50Gi`. It has the job's name. Exactly one of `size` and `claimName`."""
    storage_class_name: Name | None = None
    """Storage class of the claim to make; default: the cluster's."""
    claim_name: Name | None = None
    """An existing claim to write to. Exactly one of `size` and `claimName`."""
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"] | None = None
    """Access mode of the claim to make; default: ReadWriteMany where `nodes` is over 1, else ReadWriteOnce. Fixed
    once the claim is made."""
    retain: bool = True
    """Keep the claim that was made, with model and checkpoints, when the job is deleted. A claim that was there
    before is always kept."""


class HubAccess(ApiModel):
    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=1024)] | None = None
    """Address of a Hub mirror; default: the public Hub."""
    token_secret_ref: SecretKeyRef | None = None
    """Secret with the access token for gated and private models and datasets, and for publishing. Only the pods that
    talk to the Hub see it."""


class PublishSpec(ApiModel):
    """Where the finished model goes. Files, tokenizer and a model card are uploaded by a pod of their own, without
    accelerators, once the training pods have ended.
    """

    repo_id: Annotated[str, Field(min_length=1, max_length=193)]
    """Model repository on the Hub: `me/yelp-bert`; without an owner it is the token's account. Made where it is not
    there; whether the token may write there is checked before training."""
    private: bool | None = None
    """Visibility of a repository that is made; default: the account's. With true, a repository that is there and public
    is refused: nothing goes where all can see it."""
    revision: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$", max_length=255)] = "main"
    """Branch to commit to; made where it is not there."""
    commit_message: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """First line of the commit; default: one that names the job."""
    deadline_seconds: Seconds = 86400
    """Seconds from the end of training in which publishing is tried again while the Hub is down, busy or out of reach.
    Then the job fails and keeps its model; raising `retry` publishes again, with the same time anew."""


class FineTuneJobSpec(ApiModel):
    """What to train, on what, with what. Fixed once training has started, except where a field says otherwise."""

    task: Annotated[TaskName | None, FIXED] = None
    """What the model learns to do. Exactly one of `task` and `script`."""
    script: Annotated[ScriptSpec | None, FIXED] = None
    """Your own training program. Exactly one of `task` and `script`."""
    problem_type: Annotated[ProblemType | None, FIXED] = None
    """What a label is: one class of several, a list of classes, or a number; default: one class. For
    text-classification."""
    model: Annotated[ModelSpec | None, FIXED] = None
    """The pretrained model to start from. Every task needs it; beside a `script` it is optional: it is downloaded before
    training, and the program finds it without the Hub under the same name."""
    dataset: Annotated[Dataset | None, FIXED] = None
    """The data to train and evaluate on. Every task needs it; beside a `script` it is optional: it is downloaded before
    training, and lies in the program's DATA_DIR."""
    preprocessing: Annotated[PreprocessingSpec, FIXED] = PreprocessingSpec()
    """How text becomes tokens, once, before training."""
    training_arguments: Annotated[TrainingArguments, FIXED] = TrainingArguments()
    """Arguments of the Hugging Face Trainer, by their own names. What is not given has the default of transformers,
    except where the description says otherwise (save_strategy, save_total_limit, train_sampling_strategy). Names of
    older releases are translated, with a warning. What the system decides itself (output_dir, report_to, ...) is not
    here."""
    peft: Annotated[PeftSpec | None, FIXED] = None
    """Train an adapter (LoRA) in place of all weights; without it all weights are trained."""
    quantization: Annotated[QuantizationSpec | None, FIXED] = None
    """Hold the base model's weights in 4 bits while the adapter is trained (QLoRA): large models on small GPUs. Needs `peft`
    and a CUDA device."""
    early_stopping: Annotated[EarlyStoppingSpec | None, FIXED] = None
    """End training once evaluations no longer improve, and keep the best model. The metric is `metric_for_best_model`;
    default: the loss. Needs `eval_strategy`."""
    loss_weights: Annotated[Literal["balanced"] | None, FIXED] = None
    """`balanced`: rare classes count more in the loss, each by the inverse of how often it occurs; default: each row
    counts the same. For text-classification (not regression) and token-classification."""
    nodes: Annotated[int, Field(ge=1, le=1000), FIXED] = 1
    """Number of nodes: pods that train together as one world. Over 1, the storage must be ReadWriteMany."""
    processes_per_node: Annotated[RanksPerNode | None, FIXED] = None
    """Ranks per node; default: the accelerators in `resources`, else 1. With accelerators by ResourceClaims, whose number is
    not known here, the default is one for each claim."""
    resources: Annotated[Resources, FIXED] = Resources()
    """Resources of each node (pod) that trains."""
    helper_resources: Annotated[Resources, Mutable()] = Resources()
    """Resources of the pods that prepare the data and publish the model, which use no device. Default: what `resources` says
    of cpu, memory and ephemeral-storage, but requests of at most 4 CPUs, 8Gi of memory and 16Gi of ephemeral storage. May be
    changed at any time; once the model is being published, in an edit that raises `retry`."""
    image: Annotated[ImageName | None, FIXED] = None
    """Training image; default: the one the operator was installed with."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=128, json_schema_extra=_BY_NAME), FIXED] = ()
    """More environment variables for the pods. Those of the system (FINETUNE_*, RANK, WORLD_SIZE, MASTER_*, ...)
    cannot be set; the Hub token goes through `hub.tokenSecretRef`."""
    volumes: Annotated[tuple[Volume, ...], Field(max_length=32, json_schema_extra=_BY_NAME), FIXED] = ()
    """Volumes with models and data to mount into the pods, next to the one that `storage` names."""
    template: Annotated[
        dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}), FIXED
    ] = Field(default_factory=dict)
    """Partial pod template merged into the pods of all roles, containers by name; the training container is
    `trainer`. Devices by ResourceClaims: `resourceClaims`, and in `trainer` `resources: {claims: [{name: ...}]}`; only the
    pods that train get them. What reaches beyond the job's own pods (folders of the machine, privileges, ...) is allowed or not by the
    operator's setting `templateAllows`."""
    storage: Annotated[Storage, Immutable(f"{NEW_JOB}, with claimName to go on writing to this claim")]
    """The claim that checkpoints and the model go to: one to make (`size`), or one that is there (`claimName`)."""
    hub: Annotated[HubAccess, PUBLISHING] = HubAccess()
    """Access to the Hugging Face Hub, for gated and private models and data, for publishing, or through a mirror. After
    training has started it may change only in an edit that raises `retry`, and not once the model is published."""
    publish: Annotated[PublishSpec | None, PUBLISHING] = None
    """Publish the model on the Hub; without it the model stays on the claim alone. `hub.tokenSecretRef` names the token.
    After training has started it may change only in an edit that raises `retry`: what failed for a wrong repository or
    token is published again without training."""
    checkpoint_interval_seconds: Annotated[int, Field(ge=1, le=604800), FIXED] = 600
    """Seconds between checkpoints where `trainingArguments` gives neither `save_strategy` nor `save_steps`."""
    backoff_limit: Annotated[
        int,
        Field(ge=0, le=1000),
        Immutable("raise retry to try a failed job again"),
        Decides("after how many crashes the job fails"),
    ] = 3
    """Crashes in a row to try again after, from the last checkpoint. A new checkpoint begins the count anew; preemptions
    and lost nodes do not count. With 0 the first crash ends the job."""
    active_deadline_seconds: Annotated[
        Seconds | None, Mutable(), Decides("when a training that takes too long is ended")
    ] = None
    """Seconds from the start after which the job fails, restarts included. It ends with training: publishing holds no
    accelerators, and has a deadline of its own (`publish.deadlineSeconds`). May be changed at any time."""
    start_deadline_seconds: Annotated[Seconds, FIXED, Decides("when a gang whose pods have not met is given up")] = 1800
    """Seconds in which all pods of an attempt must have met. Then it gives its accelerators back and is tried again,
    uncounted."""
    termination_grace_period_seconds: Annotated[GraceSeconds | None, FIXED] = None
    """Seconds that the pods have to end after SIGTERM, to save a checkpoint for example; then they are killed. Default: the
    operator's setting `gracePeriodSeconds`, 30. Machines that can be taken away at any time may give less."""
    resume_from: Annotated[
        str,
        Field(pattern=r"^(auto|required|never|/.+)$", max_length=1024),
        Immutable(f"raise retry to go on from the last checkpoint, or {NEW_JOB}"),
    ] = "auto"
    """Where training begins. `auto`: at the newest good checkpoint of this job, or of an unfinished one of this name, if
    it is of the same data; `required`: the same, but a job that had a checkpoint fails where none is left on the volume,
    in place of starting anew with a warning; `never`: at the start, whatever an earlier job of this name has left; or at
    the absolute path of a checkpoint."""
    retry: Annotated[int, Field(ge=0), Mutable(), Decides("when a job that has failed is begun again")] = 0
    """Raise it to start a failed job again, from its last checkpoint; model and data are looked at again, and where they
    have changed training starts anew. A job whose training succeeded publishes again and trains no more. It may rise at
    any time, and never fall."""
