"""The interface of a task, and the values that pass between a task and its callers.

A task has no state: everything it needs is in its arguments, so that all ranks and all tries get the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.contract.task_facts import TASKS, TaskFacts, TaskName
from finetune_trainer.data.column_request import IGNORED_LABEL, LABELS, ColumnRequest
from finetune_trainer.data.data_errors import names
from finetune_trainer.data.model import ModelDescription, max_tokens, text_config
from finetune_trainer.data.split import Split
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks.kinds import require_text_alone

if TYPE_CHECKING:
    from finetune_trainer.data.prepared_dataset import PreparedDataset

# --- preparing ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checked:
    """The rows of a run once they are known to be good."""

    splits: dict[str, pa.Table]
    """Role of the split -> columns under the names of the task's roles."""
    label_names: tuple[str, ...] = ()
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    """Role of the split -> why rows were left out -> how many."""
    messages: tuple[str, ...] = ()
    of_model: Callable[[ModelDescription], tuple[str, ...]] = lambda _: ()
    """Function that returns further messages about these rows, given the model that reads them."""


@dataclass(frozen=True)
class Limits:
    """Tokens at most; None is no limit."""

    tokens: int | None
    """Tokens of a row, or of the source text where there is a target."""
    target_tokens: int | None = None


@dataclass(frozen=True)
class Reading:
    """Settings by which the rows of one split are tokenised."""

    config: TaskConfig
    model: ModelDescription
    limits: Limits
    label_names: tuple[str, ...]
    role: str
    """`train`, `validation` or `test`: columns that metrics need are kept for the last two."""

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, set to cut long texts at the end that the user wants cut."""
        side = self.config.preprocessing.truncation_side
        if side is not None:
            self.model.tokenizer.truncation_side = side
        return self.model.tokenizer


@dataclass(frozen=True)
class Tokenised:
    batch: pa.RecordBatch
    """Columns that the model reads, `labels`, `length`, and columns of the task's own (`_...`)."""
    truncated: int
    """Rows that lost tokens to a limit."""
    truncated_targets: int = 0
    """Rows whose target lost tokens to a limit, counted apart."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Why -> rows that were left out because nothing in their tokens could be learnt."""


# --- training ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """Everything that a task knows while a rank trains."""

    config: TaskConfig
    prepared: PreparedTask
    arguments: Any
    """The TrainingArguments."""
    model: Any
    tokenizer: Any
    half_precision: bool

    @property
    def label_smoothing(self) -> float:
        return float(self.arguments.label_smoothing_factor)

    @property
    def pad_to_multiple_of(self) -> int | None:
        """Factor of the lengths that tensor cores are fast with; None in full precision."""
        return 8 if self.half_precision else None

    @property
    def padding(self) -> dict[str, Any]:
        """Options for the collators of transformers that say how far rows are filled up."""
        if self.config.preprocessing.padding == "longest":
            return {"padding": "longest", "pad_to_multiple_of": self.pad_to_multiple_of}
        wanted, known = self.config.preprocessing.max_length, max_tokens(self.model.config, self.tokenizer)
        return {"padding": "max_length", "max_length": min(limit for limit in (wanted, known) if limit is not None)}


@dataclass(frozen=True)
class Evaluated:
    """Everything that an evaluation of one split gave, all ranks together."""

    predictions: Any
    """Arrays with an entry for each row of `rows`: the tokens that `generate` wrote, if any, then the results of `reduce`."""
    labels: Any
    """Labels as the collator made them, filled up with `IGNORED_LABEL`."""
    rows: PreparedDataset
    """The prepared rows in the order of the predictions."""
    examples: pa.Table | None
    """The rows before tokenising (`Checked.splits`), in the order of the data: see `PreparedDataset.number`."""


class Task(ABC):
    """One kind of training. All text is read by `prepare`; ranks see tokens."""

    name: ClassVar[TaskName]
    heads: ClassVar[str]
    """Name in `transformers.models.auto.modeling_auto` of the mapping from model types to classes with this head."""
    head: ClassVar[str]
    """Name of that head in messages: `text classification`."""
    draws: ClassVar[bool] = False
    """Whether its collator draws at random: each row then comes with `prepared_dataset.DRAW`, the seed of its draws."""
    collates: ClassVar[tuple[str, ...]] = ()
    """Columns that its collator takes beside those that the model takes."""
    reads_labels: ClassVar[bool] = True
    """Whether its metrics need the labels; else `reduce` alone sees them: labels of long rows would fill the memory."""

    @property
    def facts(self) -> TaskFacts:
        """The row of the task in `task_facts`: the facts that others know, too."""
        return TASKS[self.name]

    # --- preparing: no torch ---

    @abstractmethod
    def columns(self, config: TaskConfig) -> list[str]:
        """List all columns of the data that are read."""

    @abstractmethod
    def text_columns(self, config: TaskConfig) -> list[str]:
        """List the columns that hold text, so that a reader does not take `007` for a number."""

    def asked(self, config: TaskConfig) -> ColumnRequest:
        """Return the columns to read from the data, and how."""
        return ColumnRequest(tuple(self.columns(config)), tuple(self.text_columns(config)), config.dataset.field)

    @abstractmethod
    def check(self, splits: dict[str, Split], config: TaskConfig) -> Checked:
        """Check every row. Raise ExpectedError that names file, line, column, value and the way out."""

    def check_model(self, model: ModelDescription, config: TaskConfig) -> None:
        """Raise ExpectedError, which names models that can, where this model cannot be trained for the task."""
        # Imported by its path: as an attribute of its package it would need torch.
        kinds = getattr(import_module("transformers.models.auto.modeling_auto"), self.heads)
        if model.config.model_type not in kinds:
            raise ExpectedError(
                Reason.MODEL_NOT_FOUND,
                f"{model.name} is of kind {model.config.model_type!r}, for which transformers has no head for "
                f"{self.head}. Choose a model of another kind: {names(sorted(kinds), 12)}.",
            )
        require_text_alone(model)
        require_padding(model)

    def model_messages(self, model: ModelDescription, label_names: tuple[str, ...]) -> tuple[str, ...]:
        """Return messages for the user about this model in this task."""
        return ()

    def special_tokens(self, model: ModelDescription, config: TaskConfig) -> int:
        """Count the tokens of each row that are not text."""
        return int(model.tokenizer.num_special_tokens_to_add(pair=False))

    def limits(self, config: TaskConfig, model: ModelDescription) -> tuple[Limits, tuple[str, ...]]:
        """Return the tokens at most and messages for the user: a wish above what the model reads is cut down to that."""
        wanted, limit = config.preprocessing.max_length, model.max_tokens
        special = self.special_tokens(model, config)
        if wanted is not None and wanted <= special:
            raise ExpectedError(
                Reason.ARGUMENTS_INVALID,
                f"preprocessing.maxLength is {wanted}, of which {special} are special tokens of the model: no room is "
                f"left for text. Choose at least {special + 1}, or leave it out for the model's own limit.",
            )
        if wanted is None and limit is None and config.preprocessing.padding == "max_length":
            raise ExpectedError(
                Reason.ARGUMENTS_INVALID,
                f"preprocessing.padding is max_length, and {model.name} has no limit of its own: set "
                "preprocessing.maxLength, or padding: longest.",
            )
        if wanted is None or limit is None or wanted <= limit:
            return Limits(wanted or limit), ()
        message = f"preprocessing.maxLength is {wanted}, the model reads {limit} tokens at most: {limit} is used."
        return Limits(limit), (message,)

    @abstractmethod
    def tokenise(self, rows: pa.Table, reading: Reading) -> Iterator[Tokenised]:
        """Yield prepared rows in the order given.

        `rows` is a part of a split (some thousand rows, always cut alike, whatever the number of processes that tokenise). A column
        `_example` counts from the part's first row: the code that writes the rows adds the number of that row in the split.
        """

    def learnt(self, row: Mapping[str, Any]) -> list[int]:
        """Return the tokens that a prepared row teaches, for a person to see. Here labels are token ids where they are lists."""
        return [label for label in row[LABELS] if label != IGNORED_LABEL]

    # --- training ---

    @abstractmethod
    def load(
        self, folder: Path, prepared: PreparedTask, config: TaskConfig, options: dict[str, Any]
    ) -> tuple[Any, Any]:
        """Load the model, with weights in fp32 however they were saved, and the tokenizer; `options` go to `from_pretrained`."""

    @abstractmethod
    def collator(self, run: Training) -> Any:
        """Return the collator, which makes a batch of rows."""

    @abstractmethod
    def loss(self, run: Training) -> Callable[..., Any]:
        """Return `(outputs, labels, num_items_in_batch) -> loss`, the mean over the *global* batch."""

    @abstractmethod
    def reduce(self, run: Training) -> Callable[..., Any]:
        """Return `(logits, labels) -> values for metrics`, run on the device: logits of a whole split would fill the memory."""

    def generate(self, run: Training) -> Callable[..., Any] | None:
        """Return `(model, inputs, outputs) -> token ids` where evaluation writes text beside scoring it, else None.

        `outputs` are those of the forward pass that was scored. Metrics get `(token ids, *results of reduce)`.
        """
        return None

    @abstractmethod
    def metrics(self, run: Training, evaluated: Evaluated) -> dict[str, float]:
        """Compute the metrics that the task's row of `task_facts` names, and `loss`."""

    def details(self, run: Training, evaluated: Evaluated) -> dict[str, Any]:
        """Return what the report tells beside the metrics, as JSON: a confusion matrix, scores by label."""
        return {}

    @abstractmethod
    def predictions(self, run: Training, evaluated: Evaluated) -> Iterable[dict[str, Any]]:
        """Yield for each row, in the order of the data, its inputs, the prediction and the reference."""


def require_padding(model: ModelDescription) -> None:
    """Raise where the tokenizer has no token that can fill up a batch."""
    tokenizer = model.tokenizer
    if not (tokenizer.pad_token or tokenizer.eos_token or tokenizer.unk_token):
        raise ExpectedError(
            Reason.MODEL_NOT_FOUND,
            f"{model.name}: its tokenizer has no token for padding. Set one and save it beside the model: "
            "tokenizer.pad_token = ..., tokenizer.save_pretrained().",
        )


def require_known(ids: list[list[int]], model: ModelDescription, side: str = "encoder") -> None:
    """Raise for an id beyond the embeddings: it would end a rank, on an accelerator without a useful word.

    `side` is the part that reads them, of a model whose encoder and decoder have configurations of their own.
    """
    part = getattr(model.config, side, None)
    known = getattr(text_config(part if hasattr(part, "get_text_config") else model.config), "vocab_size", None)
    highest = max((max(row) for row in ids if row), default=0)
    if isinstance(known, int) and highest >= known:
        raise ExpectedError(
            Reason.MODEL_NOT_FOUND,
            f"{model.name}: its tokenizer gives a token the number {highest} "
            f"({model.tokenizer.convert_ids_to_tokens(highest)!r}), the model knows 0 to {known - 1}: "
            "they do not belong together.",
        )


def ensure_pad_token(model: Any, tokenizer: Any) -> None:
    """Let another token stand for padding where there is none, as with most models that continue text. The mask hides it anyway."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    parts = [text_config(model.config), *([model.config] if hasattr(model.config, "pad_token_id") else [])]
    for config in parts:
        if getattr(config, "pad_token_id", None) is None:  # configurations of kinds without such a token lack the field
            config.pad_token_id = tokenizer.pad_token_id


def make_generation_savable(model: Any) -> None:
    """Mend settings for generation that were published with a mistake, which would fail when the trained model is saved.

    Where sampling was set up but not turned on, it is turned on; of other settings only the special tokens are kept.
    """
    settings = model.generation_config
    if _is_valid(settings):
        return
    settings.do_sample = True
    if not _is_valid(settings):
        tokens = {
            name: value for name, value in settings.to_dict().items() if name.endswith(("_token_id", "_token_ids"))
        }
        model.generation_config = type(settings)(**tokens)


def _is_valid(settings: Any) -> bool:
    try:
        settings.validate(strict=True)
    except ValueError:
        return False
    return True
