"""Documents that `prepare` leaves for the ranks and the user: rows, tokens, labels, and where they lie."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finetune_trainer.contract.effects import Effect
from finetune_trainer.contract.frozen_document import Document, PodPath


class Resolved(Document):
    model_revision: str | None = None
    """Commit on the Hub."""
    dataset_revision: str | None = None
    """Commit on the Hub."""
    precision: str | None = None
    """`fp32`, `fp16` or `bf16`: what training really ran in."""


class TokenLengths(Document):
    """How many tokens training rows have."""

    median: int
    p95: int
    longest: int


class PrepareSummary(Document):
    """Summary of what was prepared, short enough for a status."""

    train_rows: int
    validation_rows: int | None = None
    test_rows: int | None = None
    dropped_rows: int = 0
    """Rows of the data that were left out; the report says why."""
    truncated_share: float | None = None
    """Share of the training rows that lost tokens to a limit."""
    token_lengths: TokenLengths | None = None
    labels: tuple[str, ...] = ()
    majority_share: float | None = None
    """Share of the commonest label among the validation rows (else the training rows): the accuracy of guessing."""

    @property
    def text(self) -> str:
        """The summary as a sentence of a condition: `1,000 train and 200 validation rows, ...`."""
        counts = {"train": self.train_rows, "validation": self.validation_rows, "test": self.test_rows}
        row_counts = [f"{count:,} {role}" for role, count in counts.items() if count is not None]
        clauses = [
            f"{', '.join(row_counts[:-1])} and {row_counts[-1]} rows" if row_counts[1:] else f"{row_counts[0]} rows"
        ]
        if self.dropped_rows:
            clauses.append(f"{self.dropped_rows:,} left out")
        if self.token_lengths is not None:
            clauses.append(f"median {self.token_lengths.median:,} tokens, 95 % up to {self.token_lengths.p95:,}")
        if self.truncated_share:
            clauses.append(f"{self.truncated_share:.1%} of the train rows cut")
        if self.labels:
            clauses.append(f"{len(self.labels)} labels")
        return ", ".join(clauses)


class SplitReport(Document):
    """A prepared split, as the log and the report describe it."""

    rows: int
    """Rows of the data that were taken."""
    sequences: int | None = None
    """Rows that the model reads, where their number is another one: windows of long contexts, packed texts."""
    dropped: dict[str, int] = Field(default_factory=dict)
    """Reason -> rows that were left out."""
    truncated: int = 0
    """Rows that lost tokens to a limit."""
    truncated_targets: int = 0
    """Rows whose target lost tokens to a limit."""
    lengths: dict[str, int] = Field(default_factory=dict)
    """Percentile (`p50`, `p90`, `p95`, `p99`, `max`) -> tokens."""
    labels: dict[str, int] = Field(default_factory=dict)
    """Label -> rows (tokens, where tokens have labels)."""
    example: str | None = None
    """The first row decoded back to text, as the model sees it."""


class Prepared(Document):
    """Document that `prepare` leaves at `<run>/prepared.json` for the ranks. Those of a task get a `PreparedTask`."""

    config_digest: Annotated[str, Effect.NOTHING]
    """SHA-256 of the parts of the RunConfig that the data depends on: with another digest `prepare` runs again."""
    data: Annotated[PodPath | None, Effect.NOTHING] = None
    """Folder with the tokenised splits as Arrow files; for a script, of the files that `dataset` names."""
    data_digest: Annotated[str | None, Effect.TRAINING] = None
    """Digest of the rows that are learnt from, in their order, and of the names of the classes: a checkpoint belongs to them."""
    model: Annotated[PodPath | None, Effect.NOTHING] = None
    """Folder to load model and tokenizer from, offline."""
    packages: Annotated[PodPath | None, Field(exclude_if=lambda value: value is None), Effect.NOTHING] = None
    """Folder of the Python packages that a script requires."""
    hub_home: Annotated[PodPath | None, Field(exclude_if=lambda value: value is None), Effect.NOTHING] = None
    """Folder for HF_HOME of a script, in which the ids of model and dataset lead to the commits in `resolved`; null where neither
    is on the Hub."""
    model_digest: Annotated[str | None, Effect.TRAINING] = None
    """Digest that tells one base model from another, whatever they are called."""
    first_attempt: Annotated[int | None, Effect.NOTHING] = None
    """First attempt of the round in which node 0 looked at model and data; null where a prepare Job did."""
    label_names: Annotated[tuple[str, ...], Effect.TRAINING] = ()
    """Class names by label id."""
    label_counts: Annotated[tuple[int, ...], Effect.NOTHING] = ()
    """Training rows (tokens) of each label, by label id."""
    summary: Annotated[PrepareSummary | None, Effect.NOTHING] = None
    splits: Annotated[dict[str, SplitReport], Effect.NOTHING] = Field(default_factory=dict)
    """Role of the split -> report on its prepared rows."""
    resolved: Annotated[Resolved, Effect.NOTHING] = Resolved()
    messages: Annotated[tuple[str, ...], Effect.NOTHING] = ()
    """What the user should know: rows clamped, texts truncated, ..."""
    content_digest: Annotated[str | None, Effect.NOTHING] = None
    """Digest of the rest of the file: one that has changed on the volume is not believed."""


class PreparedTask(Prepared):
    """What `prepare` leaves for the ranks of a task."""

    data: Annotated[PodPath, Effect.NOTHING]
    model: Annotated[PodPath, Effect.NOTHING]
    label_names: Annotated[tuple[str, ...], Effect.TRAINING]
    summary: Annotated[PrepareSummary, Effect.NOTHING]
