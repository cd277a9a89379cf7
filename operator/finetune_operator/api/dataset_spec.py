"""`spec.dataset` and `spec.preprocessing`: where data comes from, what its columns are, and how text becomes tokens."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from finetune_operator.api.api_model import ApiModel, Name

FileAddress = Annotated[str, Field(min_length=1, max_length=1024)]
"""Path or address of a file; a rule says which forms are allowed."""


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
    """Columns of the data by their role. `translation.en` is the key `en` of the column `translation`. Names that YAML reads
    as something else (`y`, `no`, `1`) need quotes.
    """

    text: Name | None = None
    """The text to classify, summarize, learn to continue, or mask. For text-classification, summarization,
    text-generation, fill-mask. Default: `text`."""
    text_pair: Name | None = None
    """The second sentence, where each row is a pair. For text-classification."""
    label: Name | None = None
    """The label. One class: names as text, or integers from 0. Several (`problemType: multi_label_classification`): a list
    of them (or a column for each: `labelColumns`). Regression: a number. The names are kept in the model's config. For
    text-classification. Default: `label`."""
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
    tools: Name | None = None
    """The functions that a conversation may call, which the chat template writes into the prompt: a list, or JSON text of
    one. For text-generation, with `messages`. A column `tools` is read without being named."""


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
    label_columns: Annotated[tuple[Name, ...], Field(min_length=1, max_length=100)] | None = None
    """Columns of 0 and 1, one for each label that a text may have, in place of `columns.label`: `[toxic, obscene, threat]`.
    The labels are called as their columns are. For `problemType: multi_label_classification`."""
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


class PreprocessingSpec(ApiModel):
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
    (M2M100). For summarization, translation."""
    target_language: LanguageCode | None = None
    """Language of the target, by the same codes; generation is made to begin with it. For
    summarization, translation."""
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
