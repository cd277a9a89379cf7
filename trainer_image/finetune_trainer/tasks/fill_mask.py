"""Words that are hidden and guessed from both sides: masked language modelling, as BERT was trained.

Which tokens are hidden is drawn for each row from (seed, epoch, row), so that no batch depends on who makes it, and an
evaluation hides the same ones every time. For a test split nothing is packed: every row of the data gets a loss of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.data.column_request import IGNORED_LABEL, LABELS, LENGTH
from finetune_trainer.data.model import ModelDescription
from finetune_trainer.data.split import Split
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks import packing, plain_text
from finetune_trainer.tasks.encoding import SpecialTokens, unmarked
from finetune_trainer.tasks.loading import load
from finetune_trainer.tasks.mlm_collator import CONTINUES, PROBABILITY, MaskingCollator
from finetune_trainer.tasks.task import Checked, Evaluated, Limits, Reading, Tokenised, Training, require_known
from finetune_trainer.tasks.token_task import DEFAULT_TOKENS, TokenTask

TEXT, EXAMPLE = "text", "_example"
NOTHING = "they hold no token that could be masked"


class FillMask(TokenTask):
    """Cross entropy on the hidden tokens' logits of AutoModelForMaskedLM, perplexity and token accuracy."""

    name = "fill-mask"
    heads = "MODEL_FOR_MASKED_LM_MAPPING_NAMES"
    head = "guessing masked words"
    draws = True
    collates = (CONTINUES,)

    # --- preparing ---

    def columns(self, config: TaskConfig) -> list[str]:
        return [config.dataset.columns.get(TEXT, TEXT)]

    def text_columns(self, config: TaskConfig) -> list[str]:
        return self.columns(config)

    def check(self, splits: dict[str, Split], config: TaskConfig) -> Checked:
        """Drop blank texts, of which corpora are full."""
        return plain_text.texts(splits, self.columns(config)[0])

    def check_model(self, model: ModelDescription, config: TaskConfig) -> None:
        super().check_model(model, config)
        if model.tokenizer.mask_token_id is None:
            raise ExpectedError(
                Reason.MODEL_NOT_FOUND,
                f"{model.name}: its tokenizer has no token for masking, so there is nothing to fill in. Choose a model "
                "that was trained with masks (bert, roberta, deberta-v2, modernbert, ...), or task text-generation.",
            )
        if config.preprocessing.whole_word_mask and not model.tokenizer.is_fast:
            raise ExpectedError(
                Reason.MODEL_NOT_FOUND,
                f"{model.name}: its tokenizer ({type(model.tokenizer).__name__}) does not tell which tokens belong to one "
                "word. Leave preprocessing.wholeWordMask out, or choose a model with a fast tokenizer (tokenizer.json).",
            )

    def limits(self, config: TaskConfig, model: ModelDescription) -> tuple[Limits, tuple[str, ...]]:
        """Return the tokens at most: packed rows have a limit also where neither user nor model has one."""
        return self.limits_by_default(config, model) if config.preprocessing.packing else super().limits(config, model)

    def tokenise(self, rows: pa.Table, reading: Reading) -> Iterator[Tokenised]:
        """Yield token ids as they are: labels are the tokens that may be masked, everything else is ignored."""
        around = packing.affixes(reading.tokenizer)
        judged = reading.role == "test"
        packed = reading.config.preprocessing.packing and not judged and reading.limits.tokens
        room = (reading.limits.tokens or 0) - len(around.begin) - len(around.end)
        packer = packing.Packer(room) if packed else None
        first = 0
        for batch in plain_text.batches(rows):
            read = _MaskedRows(reading, around)
            texts = _texts(batch, reading)
            if packer is not None:
                # The token that ends a text stands between two texts, so that the model can tell them apart.
                for row in packer.add(_ended(text, around, reading) for text in texts):
                    read.add(0, row)
            else:
                for number, text in enumerate(texts):
                    read.cut(first + number, text, room if reading.limits.tokens else None)
            yield read.tokenised(with_examples=judged)
            first += batch.num_rows
        if packer is not None:
            read = _MaskedRows(reading, around)
            for row in packer.finish():
                read.add(0, row)
            yield read.tokenised(with_examples=False)

    # --- training ---

    def load(
        self, folder: Path, prepared: PreparedTask, config: TaskConfig, options: dict[str, Any]
    ) -> tuple[Any, Any]:
        return load(self.facts.model_class, folder, "fill in words", options)

    def collator(self, run: Training) -> Any:
        """Return the collator, which draws the tokens to hide and then pads."""
        probability, tokenizer = run.config.preprocessing.mask_probability, run.tokenizer
        vocabulary = getattr(run.model.config, "vocab_size", None) or len(tokenizer)
        return MaskingCollator(
            padded=plain_text.PaddingCollator.of(run, DEFAULT_TOKENS),
            mask=tokenizer.mask_token_id,
            tokens=min(len(tokenizer), vocabulary),
            probability=PROBABILITY if probability is None else probability,
            seed=run.arguments.data_seed if run.arguments.data_seed is not None else run.arguments.seed,
        )

    def predictions(self, run: Training, evaluated: Evaluated) -> Iterable[dict[str, Any]]:
        """Yield each text with loss, perplexity and accuracy of its hidden tokens."""
        return plain_text.scored(evaluated, lambda example: example)


# --- rows of tokens ----------------------------------------------------------------------------------------------


@dataclass
class _MaskedRows:
    """Rows with the tokens that go around a text; channels are ids, labels, and whether a token goes on with a word."""

    reading: Reading
    around: packing.Affixes
    rows: list[packing.Row] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    truncated: int = 0
    dropped: int = 0

    def cut(self, number: int, text: packing.Row, room: int | None) -> None:
        """Add a text of the data; one of the test split in as many rows as it needs."""
        if self.reading.role == "test" and room is not None:
            for part in packing.cut(text, room):
                self.add(number, part)
            return
        row = packing.fit(text, room, self.reading.tokenizer.truncation_side, 0)
        if self.add(number, row):
            self.truncated += row.shape[1] < text.shape[1]
        else:
            self.dropped += 1

    def add(self, number: int, text: packing.Row) -> bool:
        """Add a row, and tell whether there is anything in it to mask."""
        special = np.isin(text[0], self.reading.tokenizer.all_special_ids)
        if special.all():
            return False
        labels = np.where(special, IGNORED_LABEL, text[0])
        row = np.stack([text[0], labels, np.where(special, 0, text[1])]).astype(np.int32)
        row[2, 0] = 0  # a word may have been cut in two
        self.rows.append(np.concatenate([_special(self.around.begin), row, _special(self.around.end)], axis=1))
        self.numbers.append(number)
        return True

    def tokenised(self, *, with_examples: bool) -> Tokenised:
        arrays = {
            "input_ids": packing.lists(self.rows, 0, pa.int32()),
            LABELS: packing.lists(self.rows, 1, pa.int32()),
            LENGTH: packing.lengths(self.rows),
        }
        if self.reading.config.preprocessing.whole_word_mask:
            arrays[CONTINUES] = packing.lists(self.rows, 2, pa.int8())
        if with_examples:
            arrays[EXAMPLE] = pa.array(self.numbers, pa.int32())
        dropped = {NOTHING: self.dropped} if self.dropped else {}
        return Tokenised(pa.RecordBatch.from_pydict(arrays), self.truncated, dropped=dropped)


def _special(ids: tuple[int, ...]) -> packing.Row:
    return packing.row(ids, [IGNORED_LABEL] * len(ids), [0] * len(ids))


def _ended(text: packing.Row, around: packing.Affixes, reading: Reading) -> packing.Row:
    end = around.end or tuple(filter(None, [reading.tokenizer.eos_token_id]))
    return np.concatenate([text, packing.row(end, [0] * len(end))], axis=1)


def _texts(batch: pa.RecordBatch, reading: Reading) -> Iterator[packing.Row]:
    """Yield the ids of each text, and which tokens continue a word."""
    marks = SpecialTokens.of(reading.tokenizer)
    texts = unmarked(batch[TEXT].to_pylist(), marks.begin, marks.end)
    encoded = reading.tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
    require_known(encoded["input_ids"], reading.model)
    whole_words = reading.config.preprocessing.whole_word_mask
    for number, ids in enumerate(encoded["input_ids"]):
        yield packing.row(ids, _continues(texts[number], encoded[number]) if whole_words else [0] * len(ids))


def _continues(text: str, encoding: Any) -> list[int]:
    """Tell which tokens continue a word: by the tokenizer's words, or by white space where it takes the whole text for one word."""
    words = encoding.word_ids
    if len(set(words)) > 1 or not any(letter.isspace() for letter in text.strip()):
        return [0, *(int(now == before and now is not None) for before, now in pairwise(words))][: len(words)]
    # Such tokens include the space before a word: a word begins where a space is.
    spans = encoding.offsets
    return [0, *(int(not _begins_word(text, *span)) for span in spans[1:])][: len(spans)]


def _begins_word(text: str, start: int, end: int) -> bool:
    return text[start:end][:1].isspace() or text[max(start - 1, 0) : start].isspace()


TASK = FillMask()
