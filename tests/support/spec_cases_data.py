"""Good and bad `spec.dataset`s: a case or more for each rule."""

from __future__ import annotations

from finetune_operator.api.rules.dataset import SPLIT_NAMES
from tests.support.spec_case import FILES, TRAIN_ONLY, Case

_STREAMED = {"name": "imdb", "streaming": True, "maxSamples": {"train": 1000}}
_REMOTE = {"dataset.name": None, "dataset.files": {"train": ["https://example.com/train.csv"]}}

DATASET_CASES = (
    Case(
        "dataset-name-and-files",
        FILES,
        {**FILES, "dataset.name": "yelp_review_full"},
        "spec.dataset",
        "give exactly one of name",
    ),
    Case(
        "dataset-neither", {}, {"dataset.name": None, "dataset.columns": {}}, "spec.dataset", "give exactly one of name"
    ),
    Case("dataset-name", {}, {"dataset.name": "/data/x.csv"}, "spec.dataset.name", "must be a dataset on the Hub"),
    *(
        Case(
            f"dataset-{name}-of-files",
            {f"dataset.{name}": value},
            {**FILES, f"dataset.{name}": value},
            f"spec.dataset.{name}",
            "only means something for a dataset on the Hub",
        )
        for name, value in (("config", "en"), ("revision", "main"))
    ),
    Case(
        "dataset-field-of-hub",
        {**FILES, "dataset.field": "data"},
        {"dataset.field": "data"},
        "spec.dataset.field",
        '"data" only means something for json files',
    ),
    *(
        Case(
            f"dataset-files-{split}-{good}",
            {"dataset.name": None, "dataset.files": {"train": ["/data/a.csv"], split: [good]}},
            {"dataset.name": None, "dataset.files": {"train": ["/data/a.csv"], split: [bad]}},
            f"spec.dataset.files.{split}[0]",
            f'"{bad}" must be an absolute path on a mounted volume, such as /data/train.csv or /data/*.jsonl, or an address',
        )
        for split, good, bad in (
            ("train", "/data/part-*.csv.gz", "data/train.csv"),
            ("validation", "https://example.com/a.jsonl", "http://example.com/a.jsonl"),
            ("test", "s3://bucket/a/*.parquet", "gs://bucket/a.parquet"),
            ("train", "hf://datasets/me/reviews@main/train.csv", "hf://me/reviews/train.csv"),
        )
    ),
    *(
        Case(
            f"dataset-splits-{split}-{good}",
            {f"dataset.splits.{split}": good},
            {f"dataset.splits.{split}": bad},
            f"spec.dataset.splits.{split}",
            f'"{bad}" is no split: write train, a slice such as train[:10%]',
        )
        for split, good, bad in (
            ("train", "train", "train[10]"),
            ("train", "train[:10%]", "train[:10 %]"),
            ("validation", "train[100:200]", "train[100-200]"),
            ("validation", "train[-10%:]", "train[:"),
            ("test", "train+validation", "train,validation"),
            ("test", "train[:50%] + test_1.0[5:]", "train +"),
            ("test", "train[:1%](pct1_dropremainder)", "train[:1%](up)"),
        )
    ),
    *(
        Case(
            f"dataset-fraction-and-{name}",
            {**TRAIN_ONLY, "dataset.validationFraction": 0.1},
            {**patch, "dataset.validationFraction": 0.1},
            "spec.dataset.validationFraction",
            '"0.1" holds out rows to evaluate on where the data has none, and here a validation split is named',
        )
        for name, patch in (("split", {"dataset.splits": {"validation": "test"}}), ("files", FILES))
    ),
    *(
        Case(
            f"dataset-streaming-{name}",
            {**around, "dataset.streaming": True, "dataset.maxSamples": {"train": 1000}},
            {**around, "dataset.streaming": True, "dataset.maxSamples": {"validation": 1000}},
            "spec.dataset.streaming",
            "reads until it has enough rows: say how many in maxSamples.train",
        )
        for name, around in (("of-hub", {}), ("of-address", _REMOTE))
    ),
    *(
        Case(
            f"dataset-streaming-of-volume-{split}",
            {**FILES, "dataset.streaming": False},
            {
                "dataset.name": None,
                "dataset.files": {"train": ["s3://bucket/a.csv"], split: ["/data/a.csv"]},
                "dataset.streaming": True,
                "dataset.maxSamples": {"train": 1000},
            },
            "spec.dataset.streaming",
            "is for data on the Hub or at an address, and files on a volume are read where they lie",
        )
        for split in SPLIT_NAMES
    ),
    *(
        Case(
            f"dataset-streaming-split-{split}",
            {"dataset": {**_STREAMED, "splits": {split: "train[100:2000]"}}},
            {"dataset": {**_STREAMED, "splits": {split: bad}}},
            f"spec.dataset.splits.{split}",
            f'"{bad}" is a share, or counted from the end, and streamed rows are not counted beforehand',
        )
        for split, bad in zip(SPLIT_NAMES, ("train[:10%]", "train[-100:]", "train[:-100]"), strict=True)
    ),
)
