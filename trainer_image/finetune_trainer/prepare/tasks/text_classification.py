"""One text, or a pair of texts, and the class that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from finetune_trainer.config import Reason, RunConfig
from finetune_trainer.prepare.errors import PrepareError, names, others, shown
from finetune_trainer.prepare.labels import class_ids, class_names
from finetune_trainer.prepare.model import Model
from finetune_trainer.prepare.source import Split
from finetune_trainer.prepare.tasks import Checked, Tokenised

TEXT, TEXT_PAIR, LABEL = "text", "text_pair", "label"
BATCH_ROWS = 1000
BLANK = r"^[\s\pZ]*$"
HEAD = "ForSequenceClassification"


def text_columns(config: RunConfig) -> list[str]:
    """Columns of text: one, or two where rows are pairs."""
    columns = config.dataset.columns
    pair = columns.get(TEXT_PAIR)
    return [columns.get(TEXT, TEXT), *([pair] if pair else [])]


def columns(config: RunConfig) -> list[str]:
    """All columns that the task reads."""
    wanted = [*text_columns(config), config.dataset.columns.get(LABEL, LABEL)]
    twice = sorted({column for column in wanted if wanted.count(column) > 1})
    if twice:
        raise PrepareError(
            Reason.COLUMN_NOT_FOUND, f"spec.dataset.columns names one column for two roles: {names(twice)}."
        )
    return wanted


def check(splits: dict[str, Split], config: RunConfig) -> Checked:
    """Every text is text, every label one of the training labels."""
    texts, label = text_columns(config), config.dataset.columns.get(LABEL, LABEL)
    for split in splits.values():
        for column in texts:
            _require_text(split, column)
    labels, messages = class_names(splits["train"], label)
    tables = {}
    for role, split in splits.items():
        roles = dict(zip((TEXT, TEXT_PAIR), texts, strict=False))
        tables[role] = pa.table(
            {
                **{key: split.table.column(column) for key, column in roles.items()},
                LABEL: class_ids(split, label, labels),
            }
        )
    return Checked(tables, labels, messages)


def _require_text(split: Split, column: str) -> None:
    values = split.table.column(column)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type) or values.null_count):
        raise PrepareError(
            Reason.DATA_INVALID,
            f"{split.place(0)}: column {column!r} holds {values.type} such as {shown(values[0].as_py())}, not text. "
            "Name the column with the text in spec.dataset.columns.",
        )
    absent = pc.is_null(values) if values.null_count else pc.match_substring_regex(values, BLANK)
    count = pc.sum(absent).as_py()
    if count:
        row = pc.index(absent, True).as_py()
        what = "has no text" if values.null_count else f"holds {shown(values[row].as_py())}, no text"
        raise PrepareError(
            Reason.DATA_INVALID,
            f"{split.place(row)}: column {column!r} {what}{others(count)}. Leave such rows out.",
        )


def check_model(model: Model, config: RunConfig) -> None:
    """The model can be given a head for classes, and its tokenizer can fill up a batch."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as WITH_HEAD

    if model.config.model_type not in WITH_HEAD:
        raise PrepareError(
            Reason.MODEL_NOT_FOUND,
            f"{model.name} is of kind {model.config.model_type!r}, for which transformers has no head for text "
            "classification. Choose another model, such as a BERT.",
        )
    tokenizer = model.tokenizer
    if not (tokenizer.pad_token or tokenizer.eos_token or tokenizer.unk_token):
        raise PrepareError(
            Reason.MODEL_NOT_FOUND,
            f"{model.name}: its tokenizer has no token for padding. Set one and save it beside the model: "
            "tokenizer.pad_token = ..., tokenizer.save_pretrained().",
        )


def model_messages(model: Model, label_names: tuple[str, ...]) -> tuple[str, ...]:
    """What becomes of the head of a model that classifies already."""
    architectures = model.config.architectures or []
    if not any(str(name).endswith(HEAD) for name in architectures) or model.config.num_labels == len(label_names):
        return ()
    return (
        f"{model.name} tells {model.config.num_labels} classes apart, the data has {len(label_names)}: "
        "its head is left behind and a new one is trained.",
    )


def special_tokens(model: Model, config: RunConfig) -> int:
    """Tokens of each row that are not text."""
    return int(model.tokenizer.num_special_tokens_to_add(pair=TEXT_PAIR in config.dataset.columns))


def tokenise(rows: pa.Table, model: Model, max_tokens: int | None) -> Iterator[Tokenised]:
    """Token ids without padding, the label, and the length that batches are grouped by."""
    for batch in rows.to_batches(max_chunksize=BATCH_ROWS):
        texts = [batch.column(name).to_pylist() for name in (TEXT, TEXT_PAIR) if name in rows.column_names]
        encoded = model.tokenizer(*texts, truncation=max_tokens is not None, max_length=max_tokens)
        ids = encoded["input_ids"]
        _require_known(ids, model)
        arrays = {
            name: pa.array(encoded[name], type=pa.list_(pa.int32() if name == "input_ids" else pa.int8()))
            for name in model.tokenizer.model_input_names
            if name in encoded
        }
        arrays["labels"] = batch.column(LABEL).cast(pa.int64())
        arrays["length"] = pa.array([len(row) for row in ids], type=pa.int32())
        encodings = encoded.encodings
        truncated = sum(bool(encoding.overflowing) for encoding in encodings) if encodings and max_tokens else 0
        yield Tokenised(pa.RecordBatch.from_pydict(arrays), truncated)


def _require_known(ids: list[list[int]], model: Model) -> None:
    """An id beyond the embeddings ends a rank, on an accelerator without a useful word."""
    known = getattr(model.config, "vocab_size", None)
    highest = max(map(max, ids))
    if isinstance(known, int) and highest >= known:
        raise PrepareError(
            Reason.MODEL_NOT_FOUND,
            f"{model.name}: its tokenizer gives a token the number {highest} "
            f"({model.tokenizer.convert_ids_to_tokens(highest)!r}), the model knows 0 to {known - 1}: "
            "they do not belong together.",
        )
