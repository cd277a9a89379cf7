"""Rules of `spec.dataset`: where data comes from, which part of it is used, and how much."""

from __future__ import annotations

from finetune_operator.api.rules.rule import Rule, exactly_one, starts_with_any

AT = "spec.dataset"
ADDRESSES = ("https://", "hf://datasets/", "s3://")
"""Beginnings of a file's address; `plan` makes a Job of its own prepare files that are read from one."""

_BOUND = "-?[0-9]+%?"
_PART = f"[A-Za-z0-9_][A-Za-z0-9_.-]*(\\\\[({_BOUND})?:({_BOUND})?\\\\](\\\\((closest|pct1_dropremainder)\\\\))?)?"
SLICES = f"^{_PART}( ?[+] ?{_PART})*$"
"""Pattern of splits as the datasets library writes them: `train`, `train[:10%]`, `train[100:200]`, `train+validation`."""

SPLIT_NAMES = ("train", "validation", "test")
_STREAMS = "(has(self.streaming) && self.streaming)"
_ONE_DATASET = (
    "give exactly one of name (a dataset on the Hub) and files (on a mounted volume, or at addresses of their own)"
)
_ONLY_HUB = "only means something for a dataset on the Hub: leave it out, or give name in place of files"

SOURCES = (
    Rule(AT, exactly_one("name", "files"), _ONE_DATASET),
    Rule(
        f"{AT}.name",
        "self.matches('^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)?$')",
        "must be a dataset on the Hub (name or owner/name); data on a volume or at an address goes under files",
        "self",
    ),
    *(
        Rule(AT, f"!has(self.{field}) || !has(self.files)", _ONLY_HUB, field=f".{field}")
        for field in ("config", "revision")
    ),
    Rule(
        AT,
        "!has(self.field) || has(self.files)",
        "only means something for json files: leave it out, or give files in place of name",
        "self.field",
        field=".field",
    ),
    *(
        Rule(
            f"{AT}.files.{split}[]",
            f"self.startsWith('/') || {starts_with_any('self', ADDRESSES)}",
            "must be an absolute path on a mounted volume, such as /data/train.csv or /data/*.jsonl, or an address that "
            f"begins with {', '.join(ADDRESSES[:-1])} or {ADDRESSES[-1]}",
            "self",
        )
        for split in SPLIT_NAMES
    ),
)

SPLITS = (
    *(
        Rule(
            f"{AT}.splits.{split}",
            f"self.matches('{SLICES}')",
            "is no split: write train, a slice such as train[:10%] or train[100:200], or several as train+validation",
            "self",
        )
        for split in SPLIT_NAMES
    ),
    Rule(
        AT,
        "!has(self.validationFraction) || !(has(self.files) && has(self.files.validation)) && "
        "!(has(self.splits) && has(self.splits.validation))",
        "holds out rows to evaluate on where the data has none, and here a validation split is named: leave one of the two "
        "out",
        "self.validationFraction",
        field=".validationFraction",
    ),
)

STREAMING = (
    Rule(
        AT,
        f"!{_STREAMS} || has(self.maxSamples) && has(self.maxSamples.train)",
        "reads until it has enough rows: say how many in maxSamples.train",
        field=".streaming",
    ),
    *(
        Rule(
            AT,
            f"!{_STREAMS} || !has(self.files) || !has(self.files.{split}) || "
            f"!self.files.{split}.exists(p, p.startsWith('/'))",
            "is for data on the Hub or at an address, and files on a volume are read where they lie: leave it out",
            field=".streaming",
        )
        for split in SPLIT_NAMES
    ),
    *(
        Rule(
            AT,
            f"!{_STREAMS} || !has(self.splits) || !has(self.splits.{split}) || "
            f"!self.splits.{split}.matches('%|-[0-9]+:|:-')",
            "is a share, or counted from the end, and streamed rows are not counted beforehand: write train[:1000]",
            f"self.splits.{split}",
            field=f".splits.{split}",
        )
        for split in SPLIT_NAMES
    ),
)

RULES = (*SOURCES, *SPLITS, *STREAMING)
