"""Rows whose text or label cannot be trained on, and settings that do not fit the rows."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.bad_input.place import NOTICE, Mistake, in_train, in_validation, mistake

_DATA, _LABELS, _ARGUMENTS = "DataInvalid", "LabelsInvalid", "ArgumentsInvalid"


def _lines(*rows: tuple[object, object]) -> str:
    return "".join(json.dumps({"review": text, "stars": label}) + "\n" for text, label in rows)


def _labels(*labels: object) -> str:
    return _lines(*((f"soup {number}", label) for number, label in enumerate(labels)))


def _text(name: str, what: str, message: str, *texts: object) -> Mistake:
    content = _lines(*((text, number % 2) for number, text in enumerate(texts)))
    return in_train(name, what, _DATA, f"/data/train.jsonl, {message}", content, "jsonl")


def _label(name: str, what: str, message: str, *labels: object, reason: str = _LABELS) -> Mistake:
    return in_train(name, what, reason, f"/data/train.jsonl{message}", _labels(*labels), "jsonl")


VALUES: tuple[Mistake, ...] = (
    _text("text-null", "a text that is null", "line 2: column 'review' has no text. Leave such rows out.", "a", None),
    _text(
        "text-number", "a number in place of a text", "line 2: column 'review' holds 7 where text is needed.", "a", 7
    ),
    _text(
        "text-empty",
        "a text that is empty",
        "line 2: column 'review' holds '', no text (and 2 more rows). Leave such rows out.",
        *("a", "", "b", "", ""),
    ),
    _text("text-blank", "a text of white space", "line 2: column 'review' holds ' \\t', no text.", "a", " \t", "b"),
    in_train(
        "text-empty-in-csv",
        "an empty value in csv",
        _DATA,
        "/data/train.csv, line 3: column 'review' has no text. Leave such rows out.",
        "review,stars\ngood,1\n,0\n",
    ),
    mistake(
        "text-null-in-parquet",
        "a null in a parquet file",
        _DATA,
        "/data/train.parquet, row 1: column 'review' has no text. Leave such rows out.",
        lambda place: pq.write_table(
            pa.table({"review": ["a", None], "stars": [0, 1]}), place.local("/data/train.parquet")
        ),
        dataset__files__train=["/data/train.parquet"],
    ),
    mistake(
        "text-numbers-in-parquet",
        "a column of numbers named as the text",
        _DATA,
        "/data/train.parquet, row 0: column 'review' holds int64 such as 7, not text. Name the column with the text in "
        "spec.dataset.columns.",
        lambda place: pq.write_table(pa.table({"review": [7, 8], "stars": [0, 1]}), place.local("/data/train.parquet")),
        dataset__files__train=["/data/train.parquet"],
    ),
    _label("label-null", "a label that is null", ", line 2: no label in column 'stars'.", 1, None, 0),
    in_train(
        "label-empty-in-csv",
        "a row of csv without a label",
        _LABELS,
        "/data/train.csv, line 3: no label in column 'stars'. Give each row one, or leave such rows out.",
        "review,stars\ngood,1\nbad,\n",
    ),
    _label("label-blank", "a label of white space", ", line 2: the label in column 'stars' is empty.", "a", " ", "b"),
    _label(
        "label-negative",
        "a negative label",
        ", line 2: label -3 in column 'stars' is negative; classes are counted from 0.",
        *(1, -3, 0),
    ),
    _label(
        "label-secret",
        "a split whose labels are kept secret",
        ", line 1: label -1 in column 'stars' is negative; classes are counted from 0. Splits of which the labels are "
        "kept secret hold -1: choose another split.",
        *(-1, -1),
    ),
    _label(
        "label-from-one",
        "numbers that do not count the classes from 0",
        ", line 3: label 5 in column 'stars' is out of range: the data has 3 different labels (1, 2, 5), so they should "
        "be 0 to 2. Renumber them from 0, or use text labels.",
        *(1, 2, 5),
    ),
    mistake(
        "label-from-one-in-csv",
        "the same in csv, where numbers are text",
        NOTICE,
        "The labels in column 'stars' are numbers that do not count classes from 0 (1, 2, 5): each is the name of a class.",
        lambda place: place.write("/data/train.csv", "review,stars\na,1\nb,2\nc,5\n"),
        dataset__files={"train": ["/data/train.csv"]},
    ),
    mistake(
        "label-fraction-as-text",
        "labels that are text with a decimal point",
        NOTICE,
        "The labels in column 'stars' are text that looks like numbers, such as '0.5': each different one is a class. For "
        "numbers to be predicted set spec.problemType: regression.",
        lambda place: place.write("/data/train.jsonl", _labels("0.5", "1.5")),
        dataset__files={"train": ["/data/train.jsonl"]},
    ),
    mistake(
        "label-spelt-in-several-ways",
        "labels that differ in white space or capital letters alone",
        NOTICE,
        "Labels in column 'stars' look alike: 'Spam' and 'spam' and 'spam '. They differ in white space, capital letters or "
        "characters that are not seen, and each is a class of its own: if that is not meant, write them alike.",
        lambda place: place.write("/data/train.jsonl", _labels("spam", "ham", "spam ", "Spam")),
        dataset__files={"train": ["/data/train.jsonl"]},
    ),
    mistake(
        "label-not-seen",
        "labels that differ in a character that is not seen",
        NOTICE,
        "Labels in column 'stars' look alike: 'cafe\\u0301' and 'caf\\xe9'; 'spam' and 'spam\\u200b'. They differ in white space, "
        "capital letters or characters that are not seen, and each is a class of its own: if that is not meant, write them alike.",
        lambda place: place.write("/data/train.jsonl", _labels("spam", "spam\u200b", "caf\u00e9", "cafe\u0301")),
        dataset__files={"train": ["/data/train.jsonl"]},
    ),
    mistake(
        "label-missing-as-text",
        "what pandas writes for a missing label, as text",
        NOTICE,
        "Label nan in column 'stars' (2 of 3) is what programs write where a value is missing: it is a class like any other. "
        "Leave such rows out if that is not meant.",
        lambda place: place.write("/data/train.csv", "review,stars\na,nan\nb,spam\nc,nan\n"),
        dataset__files={"train": ["/data/train.csv"]},
    ),
    _label("label-nan", "a label that is no number (NaN)", ", line 2: no label in column 'stars'.", 1, float("nan"), 0),
    in_train(
        "label-whole-with-a-point",
        "whole numbers with a decimal point, as pandas writes them where one is missing",
        _LABELS,
        "/data/train.csv, line 2: the label '1.0' in column 'stars' is a number with a decimal point; text-classification takes "
        "text or whole numbers from 0. For numbers to be predicted set spec.problemType: regression. Write classes without it "
        "(pandas adds it where a value is missing): df['stars'].astype('Int64').",
        "review,stars\ngood,1.0\nbad,0.0\n",
    ),
    mistake(
        "label-of-each-row",
        "a column in which each row has a label of its own",
        NOTICE,
        "Column 'stars' has 30 different labels in 30 rows, such as r0, r1: hardly any of them can be learnt. Is it the column "
        "with the labels?",
        lambda place: place.write("/data/train.jsonl", _labels(*(f"r{number}" for number in range(30)))),
        dataset__files={"train": ["/data/train.jsonl"]},
    ),
    mistake(
        "label-list-as-text",
        "lists of labels that are written as text",
        NOTICE,
        "The labels in column 'stars' look like lists written as text, such as \"['cold', 'salty']\": each different one is a "
        "class of its own. If a row has several labels set spec.problemType: multi_label_classification.",
        lambda place: place.write("/data/train.jsonl", _labels("['cold', 'salty']", "['hot']")),
        dataset__files={"train": ["/data/train.jsonl"]},
    ),
    mistake(
        "text-of-python",
        "texts that are lists as Python writes them",
        NOTICE,
        "2 of 2 texts in column 'review' look like a list written as text, such as \"['good', 'soup']\": they are read as they "
        "stand. Write the text itself into the column if that is not meant.",
        lambda place: place.write("/data/train.jsonl", _lines(("['good', 'soup']", "a"), ("['cold', 'soup']", "b"))),
        dataset__files={"train": ["/data/train.jsonl"]},
    ),
    mistake(
        "text-of-bytes",
        "texts that are bytes as Python writes them",
        NOTICE,
        "2 of 2 texts in column 'review' look like bytes written as text, such as \"b'good'\": they are read as they stand. "
        "Write the text itself into the column if that is not meant.",
        lambda place: place.write("/data/train.jsonl", _lines(("b'good'", "a"), ("b'cold'", "b"))),
        dataset__files={"train": ["/data/train.jsonl"]},
    ),
    _label(
        "label-too-high",
        "a label far above the number of classes",
        ", line 3: label 99 in column 'stars' is out of range",
        *(0, 1, 99),
    ),
    _label(
        "label-too-large",
        "a number that no integer holds",
        f", line 2: column 'stars' holds {2**70}, a number too large.",
        *(0, 2**70),
        reason=_DATA,
    ),
    _label(
        "label-fraction",
        "labels with a decimal point",
        ", line 2: the label 0.5 in column 'stars' is a number with a decimal point; text-classification takes text or "
        "whole numbers from 0.",
        *(1, 0.5, 0),
    ),
    in_train(
        "label-fraction-in-csv",
        "the same in csv",
        _LABELS,
        "/data/train.csv, line 3: the label '0.5' in column 'stars' is a number with a decimal point",
        "review,stars\na,1\nb,0.5\n",
    ),
    _label(
        "label-list",
        "a list in place of a label",
        ", line 1: column 'stars' holds list<item: int64>; labels are text or integers from 0.",
        *([1], [0]),
    ),
    _label(
        "label-mixed",
        "text among numbers",
        ", line 2: column 'stars' holds 'one', the rows before hold numbers.",
        *(0, "one"),
        reason=_DATA,
    ),
    _label(
        "label-one-class",
        "one class alone",
        ": all rows have the label 'good' in column 'stars'; there is nothing to tell apart.",
        *("good", "good"),
    ),
    in_validation(
        "label-unknown-in-validation",
        "a validation label that training does not have",
        _LABELS,
        "/data/validation.jsonl, line 2: the label 'ugly' in column 'stars' does not occur in the training data, which "
        "has negative, positive.",
        _labels("negative", "ugly"),
    ),
    in_validation(
        "label-number-in-validation",
        "numbers in the validation data, names in the training data",
        _LABELS,
        "/data/validation.jsonl, line 1: the label '1' in column 'stars' does not occur in the training data, which has "
        "negative, positive.",
        _labels(1, 0),
    ),
    mistake(
        "label-out-of-range-in-validation",
        "a validation label beyond those of the training data",
        _LABELS,
        "/data/validation.jsonl, line 2: label 2 in column 'stars' is out of range: 0 to 1.",
        lambda place: (
            place.write("/data/train.csv", "review,stars\na,0\nb,1\n"),
            place.write("/data/validation.jsonl", _labels(1, 2)),
        ),
    ),
    in_train(
        "rows-fewer-than-a-batch-dropped",
        "fewer rows than a batch, and incomplete batches dropped",
        _DATA,
        "The training data has 2 rows, fewer than one global batch of 8, and dataloader_drop_last drops what does not "
        "fill a batch: nothing would be trained. Lower per_device_train_batch_size, or leave dataloader_drop_last out.",
        "review,stars\ngood,positive\nbad,negative\n",
        trainingArguments={"dataloader_drop_last": True},
    ),
    in_train(
        "rows-fewer-than-a-batch",
        "fewer rows than a batch",
        NOTICE,
        "The training data has 2 rows, fewer than one global batch of 8: an epoch is one step.",
        "review,stars\ngood,positive\nbad,negative\n",
    ),
    mistake(
        "max-samples-over-rows",
        "maxSamples over the number of rows",
        NOTICE,
        "maxSamples.train is 500, the data has 16 rows: all of them are used.",
        lambda place: None,
        dataset__maxSamples={"train": 500},
    ),
    in_train(
        "text-longer-than-positions",
        "texts longer than the model reads",
        NOTICE,
        "1 of 2 train rows are longer than 64 tokens and are cut.",
        f"review,stars\n{'the soup ' * 100},positive\nbad,negative\n",
    ),
    mistake(
        "max-length-over-positions",
        "maxLength over what the model reads",
        NOTICE,
        "preprocessing.maxLength is 4000, the model reads 64 tokens at most: 64 is used.",
        lambda place: None,
        preprocessing__maxLength=4000,
    ),
    mistake(
        "max-length-too-small",
        "maxLength without room for text",
        _ARGUMENTS,
        "preprocessing.maxLength is 2, of which 2 are special tokens of the model: no room is left for text. Choose at "
        "least 3, or leave it out for the model's own limit.",
        lambda place: None,
        preprocessing__maxLength=2,
    ),
    mistake(
        "evaluation-without-data",
        "evaluations without validation data",
        _ARGUMENTS,
        "trainingArguments.eval_strategy: epoch needs validation data, and there is none. Name it in "
        "spec.dataset.files.validation or spec.dataset.splits.validation.",
        lambda place: None,
        dataset__files__validation=None,
        trainingArguments={"eval_strategy": "epoch"},
    ),
    mistake(
        "best-model-without-data",
        "the best model asked for without validation data",
        _ARGUMENTS,
        "trainingArguments.load_best_model_at_end: True needs validation data, and there is none.",
        lambda place: None,
        dataset__files__validation=None,
        trainingArguments={"load_best_model_at_end": True},
    ),
    mistake(
        "metric-unknown",
        "a metric that is not reported",
        _ARGUMENTS,
        "trainingArguments.metric_for_best_model: rouge1 is not reported; choose one of loss, accuracy, f1.",
        lambda place: None,
        trainingArguments={"metric_for_best_model": "rouge1"},
    ),
)
