"""A question, and the part of a context that answers it.

A long context is read in windows that overlap, each a row of its own; no answer within a window is its first token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.data.column_request import IGNORED_LABEL, LABELS
from finetune_trainer.data.data_errors import names
from finetune_trainer.data.model import ModelDescription
from finetune_trainer.data.split import Split
from finetune_trainer.data.texts import require_text, serialised
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks import answers, spans, squad
from finetune_trainer.tasks.kinds import require_decoder_start
from finetune_trainer.tasks.loading import load
from finetune_trainer.tasks.task import Checked, Evaluated, Limits, Reading, Task, Tokenised, Training, require_known
from finetune_trainer.tasks.windows import NO_ANSWER_TOKEN, NOWHERE, shortened, windows

QUESTION, CONTEXT, ANSWERS, ID = "question", "context", "answers", "id"
WINDOW_TOKENS, SHARED_TOKENS = 384, 128
"""Tokens of a window and tokens that two of them share, where the job does not say: as in the published scripts."""
STEP_TOKENS = 8
"""The least by which a window must move on."""
BATCH_ROWS = 500
CANDIDATES = 20
"""Most likely first and last tokens of an answer that are combined."""


class QuestionAnswering(Task):
    """Cross entropy of the first and the last token of the answer, exact match and F1 of its text."""

    name = "question-answering"
    heads = "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES"
    head = "question answering"

    def columns(self, config: TaskConfig) -> list[str]:
        named = config.dataset.columns
        wanted = [*self.text_columns(config), named.get(ANSWERS, ANSWERS), *([named[ID]] if ID in named else [])]
        twice = sorted({column for column in wanted if wanted.count(column) > 1})
        if twice:
            raise ExpectedError(
                Reason.COLUMN_NOT_FOUND, f"spec.dataset.columns names one column for two roles: {names(twice)}."
            )
        return wanted

    def text_columns(self, config: TaskConfig) -> list[str]:
        named = config.dataset.columns
        return [named.get(QUESTION, QUESTION), named.get(CONTEXT, CONTEXT)]

    def check(self, splits: dict[str, Split], config: TaskConfig) -> Checked:
        """Raise where an answer does not stand in its context."""
        question, context = self.text_columns(config)
        column = config.dataset.columns.get(ANSWERS, ANSWERS)
        for split in splits.values():
            require_text(split, question)
            require_text(split, context)
        read = {role: answers.read(split, column, context) for role, split in splits.items()}
        train = read["train"]
        if train.unanswerable == len(train.answers):
            raise answers.none_answered(splits["train"], column)
        messages = [message for text in (question, context) for message in serialised(splits["train"], text)]
        messages += [
            answers.moved_message(splits[role], role, answered.moved)
            for role, answered in read.items()
            if answered.moved
        ]
        messages += _never_learnt(read)
        shared = {spans.SOME_UNANSWERABLE: train.unanswerable > 0, spans.LONGEST: train.longest}
        tables = {}
        for role, split in splits.items():
            table = split.table
            chosen = {QUESTION: table.column(question), CONTEXT: table.column(context), ANSWERS: read[role].answers}
            if ID in config.dataset.columns:
                chosen[ID] = table.column(config.dataset.columns[ID]).cast(pa.string())
            rows = table.num_rows
            facts = {name: pa.repeat(pa.scalar(value), rows) for name, value in shared.items()}
            tables[role] = pa.table({**chosen, **facts})
        return Checked(tables, messages=tuple(messages))

    def check_model(self, model: ModelDescription, config: TaskConfig) -> None:
        """Raise for a tokenizer that does not tell characters: answers are found by them."""
        super().check_model(model, config)
        require_decoder_start(model)
        if not model.tokenizer.is_fast:
            raise ExpectedError(
                Reason.MODEL_NOT_FOUND,
                f"{model.name}: its tokenizer ({type(model.tokenizer).__name__}) does not tell which characters a "
                "token stands for, which question-answering needs. Choose a model with a tokenizer.json.",
            )

    def special_tokens(self, model: ModelDescription, config: TaskConfig) -> int:
        return int(model.tokenizer.num_special_tokens_to_add(pair=True))

    def limits(self, config: TaskConfig, model: ModelDescription) -> tuple[Limits, tuple[str, ...]]:
        """Return the tokens of a window: fewer than the model reads, as most contexts are short; overlaps leave it room to move."""
        wanted = config.preprocessing
        decoder = getattr(model.config, "max_decoder_position_embeddings", None)
        if decoder is not None:  # it reads the window too (LED)
            model = replace(model, max_tokens=min(decoder, model.max_tokens or decoder))
        limits, messages = super().limits(config, model)
        tokens = limits.tokens or WINDOW_TOKENS
        if wanted.max_length is None:
            tokens = min(tokens, WINDOW_TOKENS)
        special = self.special_tokens(model, config)
        room = tokens - special - _shared(config, tokens)
        if room < 2 * STEP_TOKENS:
            most = tokens - special - 2 * STEP_TOKENS
            subject = f"preprocessing.stride is {wanted.stride}: windows" if wanted.stride is not None else "windows"
            way_out = f"stride of at most {most}, or a larger" if wanted.stride is not None and most >= 0 else "larger"
            raise ExpectedError(
                Reason.ARGUMENTS_INVALID,
                f"{subject} of {tokens} tokens, of which {special} are special tokens of the model and "
                f"{_shared(config, tokens)} are shared with the window before, leave too little room for a question and "
                f"its context. Choose a {way_out} preprocessing.maxLength.",
            )
        return Limits(tokens), messages

    def tokenise(self, rows: pa.Table, reading: Reading) -> Iterator[Tokenised]:
        """Yield windows of the contexts, each with its question, in the order of the rows."""
        tokens = reading.limits.tokens or WINDOW_TOKENS
        shared = _shared(reading.config, tokens)
        room = (tokens - self.special_tokens(reading.model, reading.config) - shared) // 2
        done = 0
        for batch in rows.to_batches(max_chunksize=BATCH_ROWS):
            questions, truncated = shortened(batch.column(QUESTION).to_pylist(), room, reading.model)
            encoded = reading.model.tokenizer(
                questions,
                batch.column(CONTEXT).to_pylist(),
                truncation="only_second",
                max_length=tokens,
                stride=shared,
                return_overflowing_tokens=True,
            )
            require_known(encoded["input_ids"], reading.model)
            batch_windows, lost = windows(batch, encoded, reading, done)
            yield Tokenised(batch_windows, truncated + lost)
            done += batch.num_rows

    def learnt(self, row: Mapping[str, Any]) -> list[int]:
        """Return the tokens of the answer."""
        begin, end = row[LABELS]
        return [] if (begin, end) == NOWHERE else list(row["input_ids"][begin : end + 1])

    def load(
        self, folder: Path, prepared: PreparedTask, config: TaskConfig, options: dict[str, Any]
    ) -> tuple[Any, Any]:
        """Load a model with a head for first and last tokens that leaves out padding."""
        head = {"num_labels": 2, "ignore_mismatched_sizes": True, **options}
        # The question comes first in each row, whatever fills up the batch: also for later users of the model.
        sides = {"padding_side": "right"}
        model, tokenizer = load(self.facts.model_class, folder, "answer questions", head, sides)
        model.register_forward_hook(_without_padding, with_kwargs=True)
        return model, tokenizer

    def collator(self, run: Training) -> Any:
        """Return the collator, which pads to the longest window of the batch (or of all); labels are pairs and need no padding."""
        from transformers import DataCollatorWithPadding

        padding = run.padding
        if "max_length" in padding and run.config.preprocessing.max_length is None:
            padding["max_length"] = min(padding["max_length"], WINDOW_TOKENS)
        return DataCollatorWithPadding(run.tokenizer, **padding)

    def loss(self, run: Training) -> Callable[..., Any]:
        """Return the cross entropy of first and last tokens: the mean over both and over the windows of the global batch."""

        def compute(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
            starts, ends = outputs["start_logits"], outputs["end_logits"]
            total = _sums(starts, ends, labels, run.label_smoothing).sum()
            return total / (num_items_in_batch if num_items_in_batch is not None else (labels != IGNORED_LABEL).sum())

        return compute

    def reduce(self, run: Training) -> Callable[..., Any]:
        """Keep the most likely first and last tokens, the score of no answer, and the loss of each window."""

        def compute(outputs: Any, labels: Any) -> Any:
            # The Trainer has filled up the logits of ranks with shorter windows.
            starts, ends = (logits.masked_fill(logits == IGNORED_LABEL, -np.inf) for logits in outputs[:2])
            losses = _sums(starts, ends, labels, run.label_smoothing) / 2
            no_answer = (starts[:, NO_ANSWER_TOKEN] + ends[:, NO_ANSWER_TOKEN]).float()
            count = min(CANDIDATES, starts.shape[1])
            (start_scores, start), (end_scores, end) = starts.float().topk(count), ends.float().topk(count)
            return start, start_scores, end, end_scores, no_answer, losses

        return compute

    def metrics(self, run: Training, evaluated: Evaluated) -> dict[str, float]:
        """Compute the loss of the windows, and exact match and F1 of the questions, in percent as SQuAD gives them."""
        scored, predictions, references = _answered(evaluated)
        return {"loss": float(scored.losses.mean(dtype=np.float64)), **squad.scores(predictions, references)}

    def details(self, run: Training, evaluated: Evaluated) -> dict[str, Any]:
        """Return the scores of questions with and without an answer, where there are both."""
        _, predictions, references = _answered(evaluated)
        by_kind = {}
        for name, wanted in (("answerable", True), ("unanswerable", False)):
            chosen = [pair for pair in zip(predictions, references, strict=True) if bool(pair[1]) is wanted]
            if chosen and len(chosen) < len(predictions):
                by_kind[name] = {"questions": len(chosen), **squad.scores(*zip(*chosen, strict=True))}
        return by_kind

    def predictions(self, run: Training, evaluated: Evaluated) -> Iterable[dict[str, Any]]:
        """Yield question, context, the answer that was found (empty for none) and the right ones."""
        examples = _examples(evaluated)
        _, predicted, _ = _answered(evaluated)
        columns = [name for name in (ID, QUESTION, CONTEXT, ANSWERS) if name in examples.column_names]
        row = 0
        for batch in examples.select(columns).to_batches(max_chunksize=BATCH_ROWS):
            for example in batch.to_pylist():
                references = example.pop(ANSWERS)[answers.TEXT]
                yield {**example, "prediction": predicted[row], "references": references}
                row += 1


def _shared(config: TaskConfig, tokens: int) -> int:
    """Count the tokens that a window shares with the one before."""
    stride = config.preprocessing.stride
    return min(SHARED_TOKENS, tokens // 3) if stride is None else stride


def _never_learnt(read: dict[str, answers.Read]) -> list[str]:
    """Tell the user of questions without an answer in other splits where the training data has none."""
    if read["train"].unanswerable:
        return []
    return [
        f"{answered.unanswerable} questions of the {role} data have no answer, but none of the training data: the model cannot "
        "learn to leave a question unanswered."
        for role, answered in read.items()
        if answered.unanswerable
    ]


def _without_padding(module: Any, args: Any, kwargs: dict[str, Any], outputs: Any) -> Any:
    """Let no token of padding be an answer; else losses would depend on which rows share a batch."""
    mask = kwargs.get("attention_mask")
    if mask is not None:
        for name in ("start_logits", "end_logits"):
            outputs[name] = outputs[name].masked_fill(mask == 0, -np.inf)
    return outputs


def _sums(starts: Any, ends: Any, labels: Any, smoothing: float) -> Any:
    """Add up the cross entropy of the first and of the last token of each window."""
    return _cross_entropy(starts, labels[:, 0], smoothing) + _cross_entropy(ends, labels[:, 1], smoothing)


def _cross_entropy(logits: Any, labels: Any, smoothing: float) -> Any:
    """Return the cross entropy of each row; label smoothing spreads over the tokens of the row alone."""
    from torch.nn.functional import cross_entropy

    logits = logits.float()
    losses = cross_entropy(logits, labels, ignore_index=IGNORED_LABEL, reduction="none")
    if not smoothing:
        return losses
    unmasked = logits != -np.inf
    evenly = -logits.log_softmax(dim=-1).masked_fill(~unmasked, 0.0).sum(dim=-1) / unmasked.sum(dim=-1)
    return losses * (1 - smoothing) + evenly * smoothing * (labels != IGNORED_LABEL)


def _examples(evaluated: Evaluated) -> pa.Table:
    assert evaluated.examples is not None, "what is judged was kept"
    return evaluated.examples


def _answered(evaluated: Evaluated) -> tuple[spans.Scored, list[str], list[list[str]]]:
    """Return the scores of each window, the answer that was found to each question, and the right answers."""
    examples, scored = _examples(evaluated), spans.Scored(*evaluated.predictions)
    references = [answer[answers.TEXT] for answer in examples.column(ANSWERS).to_pylist()]
    return scored, spans.answers(scored, evaluated.rows, examples), references


TASK = QuestionAnswering()
