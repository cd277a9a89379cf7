"""Tasks that read a text and write another: the common part of summarization and translation.

Sources and targets are tokenised apart, each with its own limit. Training scores the target's tokens; evaluation also
generates, and the task compares the written text with the reference in the data, by scores of its own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.data.column_request import LABELS, LENGTH
from finetune_trainer.data.data_errors import names
from finetune_trainer.data.model import ModelDescription
from finetune_trainer.data.split import Split
from finetune_trainer.data.texts import require_text, serialised
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks import generation, languages, lengths
from finetune_trainer.tasks.encoding import inputs_of
from finetune_trainer.tasks.loading import load
from finetune_trainer.tasks.task import (
    Checked,
    Evaluated,
    Limits,
    Reading,
    Tokenised,
    Training,
    make_generation_savable,
    require_known,
)
from finetune_trainer.tasks.token_task import TokenTask

BATCH_ROWS = 1000


class SequenceToSequence(TokenTask):
    """Cross entropy of the target's tokens on the logits of AutoModelForSeq2SeqLM."""

    heads = "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES"
    head = "writing one text from another"

    @property
    def roles(self) -> tuple[str, str]:
        """The roles of source and target."""
        source, target = self.facts.roles
        return source, target

    @abstractmethod
    def scores(self, written: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        """Compute how near the written texts come to the references."""

    # --- preparing ---

    def columns(self, config: TaskConfig) -> list[str]:
        wanted = [config.dataset.columns.get(role, str(self.facts.roles[role])) for role in self.roles]
        if wanted[0] == wanted[1]:
            raise ExpectedError(
                Reason.COLUMN_NOT_FOUND, f"spec.dataset.columns names one column for two roles: {wanted[0]}."
            )
        return wanted

    def text_columns(self, config: TaskConfig) -> list[str]:
        return self.columns(config)

    def check(self, splits: dict[str, Split], config: TaskConfig) -> Checked:
        """Raise where a source or a target is no text."""
        columns = self.columns(config)
        for split in splits.values():
            for column in columns:
                require_text(split, column)
        tables = {
            role: pa.table({name: split.table.column(column) for name, column in zip(self.roles, columns, strict=True)})
            for role, split in splits.items()
        }
        return Checked(tables, messages=(*serialised(splits["train"], columns[0]), *self.data_messages(tables)))

    def data_messages(self, tables: dict[str, pa.Table]) -> tuple[str, ...]:
        """Return messages for the user about the texts."""
        return ()

    def check_model(self, model: ModelDescription, config: TaskConfig) -> None:
        """Raise for a model without an encoder, without a decoder that knows where to start, or without the languages asked for."""
        super().check_model(model, config)
        kind = model.config.model_type
        if not model.config.is_encoder_decoder:
            raise ExpectedError(
                Reason.MODEL_NOT_FOUND,
                f"{model.name} is of kind {kind!r}, which does not write a text from a text. Choose a model with encoder "
                f"and decoder: {names(list(lengths.TEXT_KINDS), 12)}.",
            )
        if getattr(model.config, "decoder_start_token_id", None) is None and kind not in lengths.START_OF_THEIR_OWN:
            raise ExpectedError(
                Reason.MODEL_NOT_FOUND,
                f"{model.name}: config.json has no decoder_start_token_id, without which the decoder cannot begin. "
                "Set it (to the id of the token for padding with T5, of the first special token with BERT) and save the "
                "model again.",
            )
        if getattr(model.config, "output_router_logits", False):
            raise ExpectedError(
                Reason.MODEL_NOT_FOUND,
                f"{model.name}: its config.json asks for a loss over its experts (output_router_logits: true), which is not computed "
                "for models that write a text from a text. Set it to false in config.json, or choose another model.",
            )
        languages.check(model, config)

    def limits(self, config: TaskConfig, model: ModelDescription) -> tuple[Limits, tuple[str, ...]]:
        """Return the tokens of source and target, and messages about them and about the prefix."""
        return lengths.limits(config, model)

    def tokenise(self, rows: pa.Table, reading: Reading) -> Iterator[Tokenised]:
        """Yield token ids of the source, token ids of the target as labels, and the length of both together."""
        model, limits, tokenizer = reading.model, reading.limits, reading.tokenizer
        languages.set_languages(tokenizer, reading.config)
        prefix = languages.prefix(tokenizer, reading.config)
        source, target = self.roles
        for batch in rows.to_batches(max_chunksize=BATCH_ROWS):
            sources = [prefix + text for text in batch.column(source).to_pylist()]
            encoded, cut = lengths.encode(tokenizer, sources, limits.tokens)
            written, cut_targets = lengths.encode(
                tokenizer, batch.column(target).to_pylist(), limits.target_tokens, target=True
            )
            ids, labels = encoded["input_ids"], written["input_ids"]
            require_known(ids, model)
            require_known(labels, model, "decoder")
            arrays = inputs_of(encoded, tokenizer)
            arrays[LABELS] = pa.array(labels, type=pa.list_(pa.int32()))
            both = [len(read) + len(write) for read, write in zip(ids, labels, strict=True)]
            arrays[LENGTH] = pa.array(both, type=pa.int32())
            yield Tokenised(pa.RecordBatch.from_pydict(arrays), cut, cut_targets)

    # --- training ---

    def load(
        self, folder: Path, prepared: PreparedTask, config: TaskConfig, options: dict[str, Any]
    ) -> tuple[Any, Any]:
        """Load the model, and tell it how its targets begin and how long they get."""
        model, tokenizer = load(self.facts.model_class, folder, "write text", options)
        languages.set_languages(tokenizer, config)
        languages.begin_targets(model, tokenizer)
        make_generation_savable(model)
        generation.configure(model.generation_config, config, lengths.target_limit(config, model.config, tokenizer))
        return model, tokenizer

    def collator(self, run: Training) -> Any:
        """Return the collator, which pads sources and targets, each to their longest or to their limit."""
        from finetune_trainer.tasks.seq2seq_collator import Seq2SeqCollator, Shift

        config, tokenizer = run.model.config, run.tokenizer
        pad, fixed = tokenizer.pad_token_id, run.config.preprocessing.padding == "max_length"
        return Seq2SeqCollator(
            shift=Shift.of(run.model, pad),
            fill={"input_ids": pad, "token_type_ids": tokenizer.pad_token_type_id},
            left=tokenizer.padding_side == "left",
            source_tokens=lengths.source_limit(run.config, config, tokenizer) if fixed else None,
            target_tokens=lengths.target_limit(run.config, config, tokenizer) if fixed else None,
            multiple_of=run.pad_to_multiple_of or 1,
        )

    def generate(self, run: Training) -> Callable[..., Any] | None:
        """Return the function that writes text as the saved model's generation config says; None where the user wants no text."""
        return generation.writer(run.model) if generation.wanted(run.config) else None

    def metrics(self, run: Training, evaluated: Evaluated) -> dict[str, float]:
        """Compute the loss as the mean over the tokens of the targets, and the scores of the text where there is some."""
        *written, losses, _, counts = evaluated.predictions
        loss = {"loss": float(losses.sum(dtype=np.float64) / counts.sum())}
        if not written:
            return loss
        scores = self.scores(self._written(run, evaluated), self._texts(evaluated, self.roles[1]))
        return {**loss, **scores, "gen_len": generation.mean_length(run.tokenizer, written[0])}

    def predictions(self, run: Training, evaluated: Evaluated) -> Iterable[dict[str, Any]]:
        """Yield source, written text and reference; nothing where evaluation does not generate."""
        if not generation.wanted(run.config):
            return
        source, target = (self._texts(evaluated, role) for role in self.roles)
        written = self._written(run, evaluated)
        data_order = np.argsort([evaluated.rows.number(index) for index in range(len(written))])
        for index in data_order.tolist():
            yield {self.roles[0]: source[index], "prediction": written[index], "reference": target[index]}

    def _written(self, run: Training, evaluated: Evaluated) -> list[str]:
        language = languages.language_id(run.tokenizer)
        return generation.texts(run.tokenizer, evaluated.predictions[0], language)

    def _texts(self, evaluated: Evaluated, role: str) -> list[str]:
        """Return a column of the examples, in the order of the predictions."""
        assert evaluated.examples is not None
        rows = [evaluated.rows.number(index) for index in range(len(evaluated.rows))]
        return [str(text) for text in evaluated.examples.column(role).take(pa.array(rows)).to_pylist()]
