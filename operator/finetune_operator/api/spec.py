"""`FineTuneJob.spec`: what a user writes. Every docstring under a field is what `kubectl explain` prints."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.config import JsonDict

from finetune_operator.api.base import ApiModel
from finetune_operator.api.training_arguments import TrainingArguments
from finetune_trainer.config import ProblemType, TaskName

Quantity = Annotated[int | str, Field(json_schema_extra={"x-kubernetes-int-or-string": True, "maxLength": 32})]
"""A Kubernetes quantity such as `2`, `500m` or `50Gi`."""

Name = Annotated[str, Field(min_length=1, max_length=253)]
_BY_NAME: JsonDict = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
"""A list that is merged by name, each name once."""
MAX_SECONDS = 2_147_483_647
"""Sixty-eight years: no sum of it and a date is out of a calendar's range."""
AbsolutePath = Annotated[str, Field(pattern=r"^/", max_length=1024)]


class Model(ApiModel):
    name: Annotated[str, Field(min_length=1, max_length=1024)]
    """Model on the Hub (`google-bert/bert-base-cased`), or the absolute path of a folder with one, on a mounted
    volume or in the image."""
    revision: Name | None = None
    """Branch, tag or commit on the Hub; resolved to a commit before training and recorded in status. Default: the
    Hub's default branch."""


FileAddress = Annotated[str, Field(min_length=1, max_length=1024)]
"""Where a file is; a rule says which ways there are."""


class Files(ApiModel):
    train: Annotated[tuple[FileAddress, ...], Field(min_length=1, max_length=256)]
    """Files to train on, of csv, tsv, json, jsonl, parquet, arrow or plain text, also compressed: absolute paths or globs
    on a mounted volume (`/data/train-*.csv`), or addresses (`https://...`, `hf://datasets/...`, `s3://...`)."""
    validation: Annotated[tuple[FileAddress, ...], Field(min_length=1, max_length=256)] | None = None
    """Files that the model is evaluated on, of the same columns; without them, and without `validationFraction`, no
    evaluation runs."""
    test: Annotated[tuple[FileAddress, ...], Field(min_length=1, max_length=256)] | None = None
    """Files that the finished model is tested on: metrics and a prediction for each row are left beside the model."""


Slice = Annotated[str, Field(min_length=1, max_length=253)]
"""A split, a slice of one, or several joined; a rule says how they are written."""


class Splits(ApiModel):
    train: Slice = "train"
    """Split to train on, or a slice of it: `train[:10%]`, `train[100:200]`, `train+validation`."""
    validation: Slice | None = None
    """Split to evaluate on, or a slice; without it `validation` is used where the dataset has one."""
    test: Slice | None = None
    """Split that the finished model is tested on, or a slice: metrics and a prediction for each row are left beside the
    model. Without it no test runs."""


class Columns(ApiModel):
    """Columns of the data by their role. `translation.en` is the key `en` of the column `translation`."""

    text: Name | None = None
    """The text to classify, summarize, learn to continue, or mask. For text-classification, summarization,
    text-generation, fill-mask. Default: `text`."""
    text_pair: Name | None = None
    """The second sentence, where each row is a pair. For text-classification."""
    label: Name | None = None
    """The label. One class: names as text, or integers from 0. Several (`problemType: multi_label_classification`): a list
    of them. Regression: a number. The names are kept in the model's config. For text-classification. Default: `label`."""
    words: Name | None = None
    """The words of a sentence, as a list. For token-classification. Default: `tokens`."""
    tags: Name | None = None
    """A tag for each of the words, as a list of names or numbers. For token-classification. Default: `ner_tags`."""
    question: Name | None = None
    """The question. For question-answering. Default: `question`."""
    context: Name | None = None
    """The text that holds the answer. For question-answering. Default: `context`."""
    answers: Name | None = None
    """The answers, as SQuAD has them: `{text: [...], answer_start: [...]}`; empty lists where there is none. For
    question-answering. Default: `answers`."""
    id: Name | None = None
    """What identifies a question in the predictions; default: the number of its row. For question-answering."""
    summary: Name | None = None
    """The summary to be written. For summarization. Default: `summary`."""
    source: Name | None = None
    """The text to translate. For translation. Default: `source`."""
    target: Name | None = None
    """Its translation. For translation. Default: `target`."""
    prompt: Name | None = None
    """What stands before `completion`, and is not learnt. For text-generation, with `completion`."""
    completion: Name | None = None
    """What the model learns to write after `prompt`. For text-generation, with `prompt`."""
    messages: Name | None = None
    """A conversation as a list of `{role, content}`: the tokenizer's chat template makes text of it, and only what the
    assistant says is learnt. For text-generation."""


class MaxSamples(ApiModel):
    train: Annotated[int, Field(ge=1)] | None = None
    """Train on at most this many rows, shuffled with the seed first."""
    validation: Annotated[int, Field(ge=1)] | None = None
    """Evaluate on at most this many rows, shuffled with the seed first."""
    test: Annotated[int, Field(ge=1)] | None = None
    """Test on at most this many rows, shuffled with the seed first."""


class SecretRef(ApiModel):
    name: Name
    """Name of a Secret in the job's namespace."""


class Dataset(ApiModel):
    name: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Dataset on the Hub (`yelp_review_full`). Exactly one of `name` and `files`."""
    config: Name | None = None
    """Configuration (subset) of the Hub dataset."""
    revision: Name | None = None
    """Branch, tag or commit on the Hub; resolved to a commit before training and recorded in status. Default: the
    Hub's default branch."""
    files: Files | None = None
    """Files on a mounted volume (`volumes` mounts it) or at an address, by split. Exactly one of `name` and `files`."""
    field: Name | None = None
    """Key of a json document that holds the rows: `data` for `{"version": ..., "data": [...]}`."""
    splits: Splits = Splits()
    """Which splits to use, of a Hub dataset or of `files`; whole ones, slices, or several joined."""
    columns: Columns = Columns()
    """Which column of your data has which role: `{text: review, label: stars}`."""
    max_samples: MaxSamples = MaxSamples()
    """Upper bounds on the rows used; more than there are is clamped and said."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the training rows that is held out to evaluate on, where the data has no validation split: the same rows
    for the same seed, each label with its share."""
    streaming: bool = False
    """Read rows of the Hub or of an address without storing the files: for data that does not fit on the volume. Needs
    `maxSamples.train`; only the tokens of the rows taken are stored."""
    credentials_secret_ref: SecretRef | None = None
    """Secret with credentials for `files` at addresses. Each key becomes an environment variable of the prepare Job, and
    of no other pod: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL`, ..."""


Tokens = Annotated[int, Field(ge=2, le=1_000_000)]
LanguageCode = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$", max_length=32)]


class Preprocessing(ApiModel):
    """How text becomes tokens. Each field says which tasks it is for."""

    max_length: Tokens | None = None
    """Tokens at most per row, longer ones are truncated (question-answering: read in windows); default: the model's own
    limit, at most 384 for question-answering and 1024 for text-generation. For all tasks but summarization and
    translation."""
    max_source_length: Tokens | None = None
    """Tokens at most of the text that is read; default: the model's own limit, at most 1024. For summarization,
    translation."""
    max_target_length: Tokens | None = None
    """Tokens at most of the text that is written, in training and in evaluation. Default: 128. For summarization,
    translation."""
    source_prefix: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Put before each text that is read, such as `summarize: `; T5 needs one. For summarization, translation."""
    source_language: LanguageCode | None = None
    """Language of the source, by the multilingual tokenizer's own code: `en_XX` (mBART), `eng_Latn` (NLLB), `en`
    (M2M100). For translation."""
    target_language: LanguageCode | None = None
    """Language of the target, by the same codes; generation is made to begin with it. For translation."""
    padding: Literal["longest", "max_length"] = "longest"
    """Fill each batch up to its longest row, or always to the limit, which is slower and seldom of use."""
    truncation_side: Literal["left", "right"] | None = None
    """Which end of a long text is cut off; default: the tokenizer's own, mostly `right`. For all tasks but
    question-answering."""
    stride: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Tokens that neighbouring windows of a long context share; default: 128, at most a third of a window. For
    question-answering."""
    packing: bool | None = None
    """Fill rows up to `maxLength` with several texts, so that nothing is padded; default: true for text-generation on
    plain text, else false. For text-generation, fill-mask."""
    whole_word_mask: bool = False
    """Mask all tokens of a word, not single tokens. For fill-mask."""
    mask_probability: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the tokens that are masked. Default: 0.15. For fill-mask."""
    num_proc: Annotated[int, Field(ge=1, le=256)] | None = None
    """Processes that tokenise; default: one for each core of the container."""


class Peft(ApiModel):
    """Train a small adapter in place of all weights: less memory, and a result of a few megabytes."""

    method: Literal["lora"] = "lora"
    """Kind of adapter."""
    r: Annotated[int, Field(ge=1, le=4096)] = 8
    """Rank of the adapter's matrices: more learns more, and takes more memory."""
    alpha: Annotated[float, Field(gt=0)] | None = None
    """Scale of the adapter's part in the output, which is `alpha / r`; default: twice `r`."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the adapter."""
    target_modules: Annotated[tuple[Name, ...], Field(min_length=1, max_length=128)] | None = None
    """Names of the modules that get an adapter (`[q_proj, v_proj]`), or `[all-linear]`; default: peft's choice for the
    architecture."""
    save_merged: bool = False
    """Leave a plain model with the adapter merged into it, which loads without peft; else the adapter alone."""


class Quantization(ApiModel):
    bits: Literal[4] = 4
    """Bits that a weight of the frozen base model is stored in (NF4)."""


class EarlyStopping(ApiModel):
    patience: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Evaluations in a row without improvement after which training ends."""
    threshold: Annotated[float, Field(ge=0)] = 0.0
    """Improvement of the metric below which it counts as none."""


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
    given out whole."""
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


class Publish(ApiModel):
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
    deadline_seconds: Annotated[int, Field(ge=1, le=MAX_SECONDS)] = 86400
    """Seconds from the end of training in which publishing is tried again while the Hub is down, busy or out of reach.
    Then the job fails and keeps its model; raising `retry` publishes again, with the same time anew."""


class FineTuneJobSpec(ApiModel):
    """What to train, on what, with what. Fixed once training has started, except where a field says otherwise."""

    task: TaskName
    """What the model learns to do."""
    problem_type: ProblemType | None = None
    """What a label is: one class of several, a list of classes, or a number; default: one class. For
    text-classification."""
    model: Model
    """The pretrained model to start from."""
    dataset: Dataset
    """The data to train and evaluate on."""
    preprocessing: Preprocessing = Preprocessing()
    """How text becomes tokens, once, before training."""
    training_arguments: TrainingArguments = TrainingArguments()
    """Arguments of the Hugging Face Trainer, by their own names. What is not given has the default of transformers,
    except where the description says otherwise (save_strategy, save_total_limit, train_sampling_strategy). Names of
    older releases are translated, with a warning. What the system decides itself (output_dir, report_to, ...) is not
    here."""
    peft: Peft | None = None
    """Train an adapter (LoRA) in place of all weights; without it all weights are trained."""
    quantization: Quantization | None = None
    """Hold the base model's weights in 4 bits while the adapter is trained (QLoRA): large models on small GPUs. Needs `peft`
    and a CUDA device."""
    early_stopping: EarlyStopping | None = None
    """End training once evaluations no longer improve, and keep the best model. The metric is `metric_for_best_model`;
    default: the loss. Needs `eval_strategy`."""
    loss_weights: Literal["balanced"] | None = None
    """`balanced`: rare classes count more in the loss, each by the inverse of how often it occurs; default: each row
    counts the same. For text-classification (not regression) and token-classification."""
    nodes: Annotated[int, Field(ge=1, le=1000)] = 1
    """Number of nodes: pods that train together as one world. Over 1, the storage must be ReadWriteMany."""
    processes_per_node: Annotated[int, Field(ge=1, le=64)] | None = None
    """Ranks per node; default: the accelerators in `resources`, else 1."""
    resources: Resources = Resources()
    """Resources of each node (pod)."""
    image: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Training image; default: the one the operator was installed with."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=128, json_schema_extra=_BY_NAME)] = ()
    """More environment variables for the pods. Those of the system (FINETUNE_*, RANK, WORLD_SIZE, MASTER_*, ...)
    cannot be set; the Hub token goes through `hub.tokenSecretRef`."""
    volumes: Annotated[tuple[Volume, ...], Field(max_length=32, json_schema_extra=_BY_NAME)] = ()
    """Volumes with models and data to mount into the pods, next to the one that `storage` names."""
    template: dict[str, Any] = Field(
        default_factory=dict, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}
    )
    """Partial pod template merged into the pods of all roles, containers by name; the training container is
    `trainer`."""
    storage: Storage
    """The claim that checkpoints and the model go to: one to make (`size`), or one that is there (`claimName`)."""
    hub: HubAccess = HubAccess()
    """Access to the Hugging Face Hub, for gated and private models and data, for publishing, or through a mirror. After
    training has started it may change only in an edit that raises `retry`, and not once the model is published."""
    publish: Publish | None = None
    """Publish the model on the Hub; without it the model stays on the claim alone. `hub.tokenSecretRef` names the token.
    After training has started it may change only in an edit that raises `retry`: what failed for a wrong repository or
    token is published again without training."""
    checkpoint_interval_seconds: Annotated[int, Field(ge=1, le=604800)] = 600
    """Seconds between checkpoints where `trainingArguments` gives neither `save_strategy` nor `save_steps`."""
    backoff_limit: Annotated[int, Field(ge=0, le=1000)] = 3
    """Crashes and hangs to try again after, from the last checkpoint; preemptions and lost nodes do not count."""
    active_deadline_seconds: Annotated[int, Field(ge=1, le=MAX_SECONDS)] | None = None
    """Seconds from the start after which the job fails, restarts included. It ends with training: publishing holds no
    accelerators, and has a deadline of its own (`publish.deadlineSeconds`). May be changed at any time."""
    start_deadline_seconds: Annotated[int, Field(ge=1, le=MAX_SECONDS)] = 1800
    """Seconds in which all pods of an attempt must have met. Then it gives its accelerators back and is tried again,
    uncounted."""
    resume_from: Annotated[str, Field(pattern=r"^(auto|never|/.+)$", max_length=1024)] = "auto"
    """Where training begins. `auto`: at the newest good checkpoint of this job; `never`: at the start, whatever an
    earlier job of this name has left; or at the absolute path of a checkpoint."""
    retry: Annotated[int, Field(ge=0)] = 0
    """Raise it to start a failed job again, from its last checkpoint; a job whose training succeeded publishes again and
    trains no more. It may rise at any time, and never fall."""
