"""Kinds of labels of a text: one class, several at once, or a number. Labels, loss, choice and scores of each.

`problemType` chooses the kind; `text_classification` reads the texts. Metrics are those of scikit-learn.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.contract.task_facts import ProblemType
from finetune_trainer.data import label_columns, label_lists, number_labels
from finetune_trainer.data.column_request import IGNORED_LABEL
from finetune_trainer.data.labels import class_ids, class_names
from finetune_trainer.data.split import Split
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks.classes import SHOWN_CLASSES, balanced, scores
from finetune_trainer.tasks.task import Training


@dataclass(frozen=True)
class Labels:
    """The labels of all splits, known to be good."""

    names: tuple[str, ...]
    columns: dict[str, pa.ChunkedArray]
    """Role of the split -> its labels, as ids (lists of them) or numbers."""
    messages: tuple[str, ...] = ()


class LabelProblem(ABC):
    """Kind of label, and all that follows from it."""

    name: ProblemType

    def check(self, config: TaskConfig) -> None:
        """Raise ExpectedError where a setting has no meaning for such labels."""
        return

    @abstractmethod
    def read(self, splits: Mapping[str, Split], column: str) -> Labels:
        """Check and return every label."""

    @abstractmethod
    def prepared(self, labels: pa.Array, classes: int) -> pa.Array:
        """Return the labels as the ranks read them."""

    def outputs(self, classes: int) -> int:
        """Count the numbers that the model gives for a row."""
        return classes

    @abstractmethod
    def losses(self, run: Training) -> Callable[[Any, Any], Any]:
        """Return `(logits, labels) -> losses`, in the shape of the labels, 0 where they do not count."""

    @abstractmethod
    def choose(self, logits: Any) -> Any:
        """Return what the model predicts, in the form of the labels."""

    @abstractmethod
    def metrics(self, labels: Any, chosen: Any) -> dict[str, float]:
        """Compute the metrics that `task_facts` names."""

    def details(self, labels: Any, chosen: Any, names: Sequence[str]) -> dict[str, Any]:
        """Return what the report tells beside the metrics."""
        return {}

    @abstractmethod
    def readable(self, value: Any, names: Sequence[str]) -> Any:
        """Return a prediction as a person reads it."""

    @abstractmethod
    def readable_label(self, value: Any, names: Sequence[str]) -> Any:
        """Return a label of `Labels.columns` as a person reads it."""


class SingleLabel(LabelProblem):
    """One class of several: cross entropy, accuracy, F1 as the plain mean over the classes that occur."""

    name: ProblemType = "single_label_classification"

    def read(self, splits: Mapping[str, Split], column: str) -> Labels:
        names, messages = class_names(splits["train"], column)
        return Labels(names, {role: class_ids(split, column, names) for role, split in splits.items()}, messages)

    def prepared(self, labels: pa.Array, classes: int) -> pa.Array:
        return labels.cast(pa.int64())

    def losses(self, run: Training) -> Callable[[Any, Any], Any]:
        import torch

        weights = torch.tensor(balanced(run.prepared.label_counts)) if run.config.loss_weights else None

        def compute(logits: Any, labels: Any) -> Any:
            return torch.nn.functional.cross_entropy(
                logits.float(),
                labels,
                weight=None if weights is None else weights.to(logits.device),
                ignore_index=IGNORED_LABEL,
                label_smoothing=run.label_smoothing,
                reduction="none",
            )

        return compute

    def choose(self, logits: Any) -> Any:
        return logits.argmax(dim=-1)

    def metrics(self, labels: Any, chosen: Any) -> dict[str, float]:
        from sklearn.metrics import accuracy_score, f1_score

        return {
            "accuracy": float(accuracy_score(labels, chosen)),
            "f1": float(f1_score(labels, chosen, average="macro", zero_division=0.0)),
        }

    def details(self, labels: Any, chosen: Any, names: Sequence[str]) -> dict[str, Any]:
        from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

        ids = list(range(len(names)))
        values = precision_recall_fscore_support(labels, chosen, labels=ids, zero_division=0.0)
        report: dict[str, Any] = {"perLabel": scores(names, values)}
        if len(names) <= SHOWN_CLASSES:
            # A row for each class as labelled, a column for each as predicted.
            matrix = confusion_matrix(labels, chosen, labels=ids)
            report["confusionMatrix"] = {"labels": list(names), "counts": matrix.tolist()}
        return report

    def readable(self, value: Any, names: Sequence[str]) -> Any:
        return names[int(value)]

    def readable_label(self, value: Any, names: Sequence[str]) -> Any:
        return names[value]


class MultiLabel(LabelProblem):
    """Any number of classes at once: a yes or no for each, by the sign of its logit."""

    name: ProblemType = "multi_label_classification"

    def read(self, splits: Mapping[str, Split], column: str) -> Labels:
        sign = label_lists.separator(splits.values(), column)
        lists = {
            role: label_lists.Lists.read(split, column, noun="label", separator=sign) for role, split in splits.items()
        }
        names, messages = lists["train"].names(at_least=1)
        for labels in lists.values():
            labels.require_no_doubles()
        lists["train"].require_difference()
        columns = {role: labels.ids(names) for role, labels in lists.items()}
        how = (
            "labels are the items of the list"
            if sign == label_lists.BRACKETS
            else f"labels are what is between {sign!r}"
        )
        note = (f"Column {column!r} holds text: {how}.",) if sign else ()
        return Labels(names, columns, (*note, *messages))

    @staticmethod
    def read_columns(splits: Mapping[str, Split], columns: Sequence[str]) -> Labels:
        """Check and return every label where each has a column of its own, of 0 and 1."""
        ids = {role: label_columns.ids(split, columns) for role, split in splits.items()}
        return Labels(tuple(columns), ids, label_columns.about(splits["train"], columns, ids["train"]))

    def prepared(self, labels: pa.Array, classes: int) -> pa.Array:
        """Return a 0 or 1 for each class."""
        lengths = labels.value_lengths().to_numpy()
        table = np.zeros((len(labels), classes), dtype=np.float32)
        table[np.repeat(np.arange(len(labels)), lengths), labels.flatten().to_numpy()] = 1.0
        offsets = np.arange(len(labels) + 1, dtype=np.int32) * classes
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(table.reshape(-1)))

    def losses(self, run: Training) -> Callable[[Any, Any], Any]:
        import torch

        weights = None
        if run.config.loss_weights:
            rows = run.prepared.summary.train_rows
            weights = torch.tensor([balanced((rows - count, count)) for count in run.prepared.label_counts])

        def compute(logits: Any, labels: Any) -> Any:
            counted = labels != IGNORED_LABEL
            wanted = torch.where(counted, labels, 0).float()
            smooth = wanted * (1 - run.label_smoothing) + run.label_smoothing / 2
            losses = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), smooth, reduction="none")
            if weights is not None:
                no, yes = weights.to(logits.device).unbind(dim=1)
                losses = losses * torch.where(wanted > 0.5, yes, no)
            return torch.where(counted, losses, 0.0)

        return compute

    def choose(self, logits: Any) -> Any:
        return logits > 0

    def metrics(self, labels: Any, chosen: Any) -> dict[str, float]:
        """Compute F1 as the plain mean over the labels and over all decisions, and the share of rows in which all labels are right."""
        from sklearn.metrics import accuracy_score, f1_score

        return {
            "f1": float(f1_score(labels, chosen, average="macro", zero_division=0.0)),
            "f1_micro": float(f1_score(labels, chosen, average="micro", zero_division=0.0)),
            "accuracy": float(accuracy_score(labels, chosen)),
        }

    def details(self, labels: Any, chosen: Any, names: Sequence[str]) -> dict[str, Any]:
        from sklearn.metrics import multilabel_confusion_matrix, precision_recall_fscore_support

        by_label = scores(names, precision_recall_fscore_support(labels, chosen, average=None, zero_division=0.0))
        for name, ((right_no, wrong_yes), (wrong_no, right_yes)) in zip(
            names, multilabel_confusion_matrix(labels, chosen).tolist(), strict=True
        ):
            by_label[name] |= {
                "truePositives": right_yes,
                "falsePositives": wrong_yes,
                "falseNegatives": wrong_no,
                "trueNegatives": right_no,
            }
        return {"perLabel": by_label}

    def readable(self, value: Any, names: Sequence[str]) -> Any:
        return [name for name, yes in zip(names, value, strict=True) if yes]

    def readable_label(self, value: Any, names: Sequence[str]) -> Any:
        return [names[index] for index in sorted(set(value))]


class Regression(LabelProblem):
    """A number: squared error, and the correlation of predictions and numbers."""

    name: ProblemType = "regression"

    def check(self, config: TaskConfig) -> None:
        if config.loss_weights:
            raise ExpectedError(
                Reason.ARGUMENTS_INVALID, "spec.lossWeights: a regression has no classes to balance. Leave it out."
            )
        if config.training_arguments.get("label_smoothing_factor"):
            raise ExpectedError(
                Reason.ARGUMENTS_INVALID,
                "trainingArguments.label_smoothing_factor: a regression has no classes to smooth. Leave it out.",
            )

    def read(self, splits: Mapping[str, Split], column: str) -> Labels:
        columns = {role: number_labels.numbers(split, column) for role, split in splits.items()}
        number_labels.require_spread(splits["train"], column, columns["train"])
        return Labels((), columns)

    def prepared(self, labels: pa.Array, classes: int) -> pa.Array:
        """Return the numbers; one that is equal to the mark of ignored labels becomes its neighbour."""
        values = labels.to_numpy(zero_copy_only=False).astype(np.float32)
        neighbour = np.nextafter(np.float32(IGNORED_LABEL), np.float32(0))
        return pa.array(np.where(values == IGNORED_LABEL, neighbour, values))

    def outputs(self, classes: int) -> int:
        return 1

    def losses(self, run: Training) -> Callable[[Any, Any], Any]:
        import torch

        def compute(logits: Any, labels: Any) -> Any:
            counted = labels != IGNORED_LABEL
            errors = (logits.float().squeeze(-1) - labels.float()) ** 2
            return torch.where(counted, errors, 0.0)

        return compute

    def choose(self, logits: Any) -> Any:
        return logits.float().squeeze(-1)

    def metrics(self, labels: Any, chosen: Any) -> dict[str, float]:
        from sklearn.feature_selection import r_regression
        from sklearn.metrics import mean_squared_error

        if not np.isfinite(chosen).all():
            return {"mse": math.nan, "pearson": math.nan}
        # Without a spread on either side there is no correlation: 0.
        correlation = r_regression(chosen.astype(np.float64).reshape(-1, 1), labels.astype(np.float64))
        return {"mse": float(mean_squared_error(labels, chosen)), "pearson": float(correlation[0])}

    def readable(self, value: Any, names: Sequence[str]) -> Any:
        return float(value)

    def readable_label(self, value: Any, names: Sequence[str]) -> Any:
        return value


PROBLEMS: dict[ProblemType, LabelProblem] = {
    problem.name: problem for problem in (SingleLabel(), MultiLabel(), Regression())
}


def problem_of(config: TaskConfig) -> LabelProblem:
    """Return the problem of a run, by the kind of its labels."""
    return PROBLEMS[config.problem_type or "single_label_classification"]
