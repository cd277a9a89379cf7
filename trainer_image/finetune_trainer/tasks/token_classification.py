"""Words and a tag for each: names in a text, parts of speech.

A model reads parts of words. The first part of a word learns its tag, the others learn nothing. Words are joined with
spaces before they are cut into parts, so that the model meets them in training as a pipeline shows it a text later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.data.column_request import IGNORED_LABEL, LABELS, LENGTH
from finetune_trainer.data.data_errors import names, others
from finetune_trainer.data.label_lists import TAG, Lists
from finetune_trainer.data.model import ModelDescription
from finetune_trainer.data.split import Split
from finetune_trainer.data.words import require_words
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks import classes, tag_scores
from finetune_trainer.tasks.encoding import inputs_of
from finetune_trainer.tasks.task import Checked, Evaluated, Reading, Task, Tokenised, Training, require_known

WORDS, TAGS = "words", "tags"
DEFAULT_COLUMNS = {WORDS: "tokens", TAGS: "ner_tags"}
TAGGED = "_tagged"
"""Column of the words that have a tag among the labels, by their number in the row; kept for predictions."""
HEAD = "ForTokenClassification"


class TokenClassification(Task):
    """Cross entropy on the logits of AutoModelForTokenClassification; seqeval's scores."""

    name = "token-classification"
    heads = "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES"
    head = "token classification"

    def columns(self, config: TaskConfig) -> list[str]:
        wanted = [config.dataset.columns.get(role, name) for role, name in DEFAULT_COLUMNS.items()]
        if wanted[0] == wanted[1]:
            raise ExpectedError(
                Reason.COLUMN_NOT_FOUND, f"spec.dataset.columns names one column for two roles: {names(wanted[0])}."
            )
        return wanted

    def text_columns(self, config: TaskConfig) -> list[str]:
        return []  # words are lists

    def check(self, splits: dict[str, Split], config: TaskConfig) -> Checked:
        """Raise where a row has no words, other than as many tags, or a tag that is none of the training tags."""
        words, tags = self.columns(config)
        blank = {role: require_words(split, words) for role, split in splits.items()}
        lists = {role: Lists.read(split, tags, noun=TAG) for role, split in splits.items()}
        for role, split in splits.items():
            _require_pairs(split, words, tags, lists[role])
        labels, messages = lists["train"].names(at_least=2)
        notes = [*messages, *_about(labels, lists["train"], tags)]
        notes += [
            f"{count} words of the {role} rows are blank: they are left out." for role, count in blank.items() if count
        ]
        notes += [
            f"{tag_lists.not_counted} words of the {role} rows have the tag {IGNORED_LABEL}: they are neither learnt nor judged."
            for role, tag_lists in lists.items()
            if tag_lists.not_counted
        ]
        tables = {
            role: pa.table({WORDS: split.table.column(words), TAGS: lists[role].ids(labels)})
            for role, split in splits.items()
        }
        return Checked(tables, labels, messages=tuple(notes))

    def check_model(self, model: ModelDescription, config: TaskConfig) -> None:
        super().check_model(model, config)
        if not model.tokenizer.is_fast:
            raise ExpectedError(
                Reason.MODEL_NOT_FOUND,
                f"{model.name}: its tokenizer ({type(model.tokenizer).__name__}) cannot say which word a token is of. "
                "Choose a model with a fast tokenizer (tokenizer.json).",
            )

    def model_messages(self, model: ModelDescription, label_names: tuple[str, ...]) -> tuple[str, ...]:
        return classes.head_message(model, HEAD, len(label_names))

    def tokenise(self, rows: pa.Table, reading: Reading) -> Iterator[Tokenised]:
        """Yield token ids without padding, and for each token a tag or the mark of ignored labels."""
        limit = reading.limits.tokens
        for batch in rows.to_batches(max_chunksize=classes.BATCH_ROWS):
            joined = [JoinedWords(words) for words in batch.column(WORDS).to_pylist()]
            encoded = reading.tokenizer([row.text for row in joined], truncation=limit is not None, max_length=limit)
            ids = encoded["input_ids"]
            require_known(ids, reading.model)
            labels, tagged = [], []
            for row, tags, encoding in zip(joined, batch.column(TAGS).to_pylist(), encoded.encodings, strict=True):
                token_tags = [IGNORED_LABEL] * len(encoding.ids)
                counted = []
                for token, word in zip(*row.first_tokens(encoding.offsets), strict=True):
                    token_tags[token] = tags[word]
                    if tags[word] != IGNORED_LABEL:
                        counted.append(word)
                labels.append(token_tags)
                tagged.append(counted)
            arrays = inputs_of(encoded, reading.tokenizer)
            arrays[LABELS] = pa.array(labels, pa.list_(pa.int32()))
            arrays[LENGTH] = pa.array([len(row) for row in ids], type=pa.int32())
            if reading.role != "train":
                arrays[TAGGED] = pa.array(tagged, pa.list_(pa.int32()))
            yield Tokenised(pa.RecordBatch.from_pydict(arrays), classes.truncated(encoded, limit))

    def load(
        self, folder: Path, prepared: PreparedTask, config: TaskConfig, options: dict[str, Any]
    ) -> tuple[Any, Any]:
        labels = prepared.label_names
        wanted = {**options, "num_labels": len(labels)}
        head = self.facts.model_class
        return classes.load_with_labels(head, folder, "tag words", labels, config, wanted)

    def collator(self, run: Training) -> Any:
        from transformers import DataCollatorForTokenClassification

        return DataCollatorForTokenClassification(run.tokenizer, label_pad_token_id=IGNORED_LABEL, **run.padding)

    def loss(self, run: Training) -> Callable[..., Any]:
        """Return the loss of the words that count, divided by how many the global batch has of them."""
        import torch

        losses = _losses(run)

        def compute(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
            logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
            items = num_items_in_batch if num_items_in_batch is not None else (labels != IGNORED_LABEL).sum()
            # Not max(): it would wait for the device. A batch may have no word that counts.
            return losses(logits, labels).sum() / torch.as_tensor(items).clamp(min=1)

        return compute

    def reduce(self, run: Training) -> Callable[..., Any]:
        """Keep the predicted tag of each token, and the loss of each row."""
        losses = _losses(run)

        def compute(outputs: Any, labels: Any) -> Any:
            logits = outputs[0] if isinstance(outputs, tuple) else outputs
            return logits.argmax(dim=-1), losses(logits, labels).sum(dim=1)

        return compute

    def metrics(self, run: Training, evaluated: Evaluated) -> dict[str, float]:
        """Compute the loss as the mean over the words, and seqeval's scores."""
        total = float(evaluated.predictions[1].sum(dtype=np.float64))
        words = int((evaluated.labels != IGNORED_LABEL).sum())
        references, predictions = _tags(run, evaluated)
        scheme = tag_scores.scheme_of(run.prepared.label_names)
        return {"loss": total / max(words, 1), **tag_scores.metrics(references, predictions, scheme)}

    def details(self, run: Training, evaluated: Evaluated) -> dict[str, Any]:
        """Return the scores of each kind of entity (of each tag, where words make no entities)."""
        scheme = tag_scores.scheme_of(run.prepared.label_names)
        return {"perLabel": tag_scores.by_kind(*_tags(run, evaluated), scheme)}

    def predictions(self, run: Training, evaluated: Evaluated) -> Iterable[dict[str, Any]]:
        """Yield the words of each row and their tags by name; no tag for a word that was cut off or does not count."""
        labels = run.prepared.label_names
        _, chosen = _tags(run, evaluated)
        for index, example in zip(classes.in_order(evaluated), classes.examples(evaluated), strict=True):
            predicted: list[str | None] = [None] * len(example[WORDS])
            for word, tag in zip(evaluated.rows.own(index, TAGGED), chosen[index], strict=True):
                predicted[word] = tag
            yield {
                WORDS: example[WORDS],
                "prediction": predicted,
                "reference": [None if tag == IGNORED_LABEL else labels[tag] for tag in example[TAGS]],
            }


class JoinedWords:
    """Words as one text, and where each of them stands."""

    def __init__(self, words: list[str]) -> None:
        self._words = [(number, word) for number, word in enumerate(words) if word.strip()]
        self.text = " ".join(word for _, word in self._words)

    def first_tokens(self, offsets: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
        """Return the tokens with which a word begins, and the number of that word; words without a token are missing."""
        tokens: list[int] = []
        numbers: list[int] = []
        spans = self._spans()
        number, begins, ends = next(spans)
        for token, (first, last) in enumerate(offsets):
            if first == last:  # of no text: a token of the model's own
                continue
            # A token may begin with the space before its word.
            while ends <= first:
                number, begins, ends = next(spans)
            if last > begins and (not numbers or numbers[-1] != number):
                tokens.append(token)
                numbers.append(number)
        return tokens, numbers

    def _spans(self) -> Iterator[tuple[int, int, int]]:
        """Yield the number of each word, where it begins and where it ends; beyond the last, nothing ends."""
        begins = 0
        for number, word in self._words:
            yield number, begins, begins + len(word)
            begins += len(word) + 1
        yield len(self.text), len(self.text), len(self.text) + 1


def _require_pairs(split: Split, words: str, tags: str, lists: Lists) -> None:
    """Raise where a row has not as many tags as words."""
    word_counts = pc.list_value_length(split.table.column(words)).cast(pa.int64())
    unequal = pc.not_equal(word_counts, lists.lengths)
    row = pc.index(unequal, True).as_py()
    if row >= 0:
        count = pc.sum(unequal).as_py()
        raise ExpectedError(
            Reason.LABELS_INVALID,
            f"{split.place(row)}: {word_counts[row]} words in column {words!r}, {lists.lengths[row]} tags in column {tags!r}"
            f"{others(count)}. Each word needs one tag.",
        )


def _about(labels: tuple[str, ...], lists: Lists, column: str) -> tuple[str, ...]:
    """Return messages for the user about the tags."""
    if lists.items.integers and lists.items.declared is None:
        return (
            f"The tags in column {column!r} are numbers without names: the model will call them {labels[0]} to "
            f"{labels[-1]}, and each word is counted for itself, not names of several words.",
        )
    message = tag_scores.scheme_of(labels).message
    return (message,) if message else ()


def _losses(run: Training) -> Callable[[Any, Any], Any]:
    """Return `(logits, labels) -> losses` of each token, 0 where it does not count."""
    import torch

    weights = torch.tensor(classes.balanced(run.prepared.label_counts)) if run.config.loss_weights else None

    def compute(logits: Any, labels: Any) -> Any:
        return torch.nn.functional.cross_entropy(
            logits.float().transpose(1, 2),
            labels,
            weight=None if weights is None else weights.to(logits.device),
            ignore_index=IGNORED_LABEL,
            label_smoothing=run.label_smoothing,
            reduction="none",
        )

    return compute


def _tags(run: Training, evaluated: Evaluated) -> tuple[tag_scores.Tags, tag_scores.Tags]:
    """Return the tags of the words that have one among the labels, as they should be and as they were predicted."""
    named = np.array(run.prepared.label_names, dtype=object)
    references, predictions = [], []
    for labels, chosen in zip(evaluated.labels, evaluated.predictions[0], strict=True):
        counted = labels != IGNORED_LABEL
        references.append(named[labels[counted]].tolist())
        predictions.append(named[chosen[counted]].tolist())
    return references, predictions


TASK = TokenClassification()
