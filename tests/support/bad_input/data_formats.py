"""Files packed, joined, nested or cut in parts in ways that do not work; splits that name no rows."""

from __future__ import annotations

import gzip
import json

from tests.support.bad_input.place import GOOD_CSV, NOTICE, Mistake, in_train, mistake

_DATA, _FILE, _COLUMN, _LABELS, _DATASET = (
    "DataInvalid",
    "FileNotFound",
    "ColumnNotFound",
    "LabelsInvalid",
    "DatasetNotFound",
)
_ROWS = [{"review": "good soup", "stars": 1}, {"review": "cold bread", "stars": 0}]
_DOCUMENT = json.dumps({"version": "1", "data": _ROWS})
_NESTED = "".join(json.dumps({"said": {"en": row["review"]}, "stars": row["stars"]}) + "\n" for row in _ROWS)
_LINES = "".join(json.dumps(row) + "\n" for row in _ROWS)
_MARK = b"\xef\xbb\xbf"


def _split(name: str, what: str, message: str, split: str, role: str = "train", reason: str = _DATASET) -> Mistake:
    return mistake(name, what, reason, message, lambda place: None, **{f"dataset__splits__{role}": split})


FORMATS: tuple[Mistake, ...] = (
    mistake(
        "glob-without-files",
        "a pattern that no file fits",
        _FILE,
        "No file fits /data/part-*.csv. /data holds train.csv, validation.jsonl.",
        lambda place: None,
        dataset__files__train=["/data/part-*.csv"],
    ),
    mistake(
        "glob-without-folder",
        "a pattern in a folder that is not there",
        _FILE,
        "No file fits /data/nope/*.csv. The folder /data/nope does not exist either: is the volume mounted (spec.volumes)?",
        lambda place: None,
        dataset__files__train=["/data/nope/*.csv"],
    ),
    mistake(
        "address-of-an-unknown-kind",
        "an address of something that is no file of rows",
        _DATA,
        "https://data.test/reviews: cannot read a file without suffix; use .csv, .tsv, .json, .jsonl, .txt, .parquet, "
        ".arrow, the text formats also packed as .gz, .bz2, .xz, .zst.",
        lambda place: None,
        dataset__files__train=["https://data.test/reviews?signature=secret"],
    ),
    mistake(
        "files-of-other-types",
        "a column that is text in one file and numbers in another",
        _DATA,
        "Column 'stars' holds string in /data/train.csv and int64 in /data/more.jsonl.",
        lambda place: place.write("/data/more.jsonl", _LINES),
        dataset__files__train=["/data/train.csv", "/data/more.jsonl"],
    ),
    in_train(
        "packed-file-cut",
        "a packed file that was not copied as a whole",
        _DATA,
        "/data/train.csv.gz cannot be unpacked as gzip: Truncated compressed stream. Was it copied as a whole?",
        gzip.compress(GOOD_CSV.encode(), mtime=0)[:-12],
        "csv.gz",
    ),
    in_train(
        "packed-in-another-way",
        "a file that is packed in another way than its name says",
        _DATA,
        "/data/train.csv.zst cannot be unpacked as zstd: ",
        gzip.compress(GOOD_CSV.encode(), mtime=0),
        "csv.zst",
    ),
    in_train(
        "parquet-packed-as-a-whole",
        "a parquet file that is packed as a whole",
        _DATA,
        "/data/train.parquet.gz: cannot read .parquet that is packed as a whole; unpack it.",
        gzip.compress(b"PAR1", mtime=0),
        "parquet.gz",
    ),
    in_train(
        "tsv-of-commas",
        "commas in a file of tabs",
        _COLUMN,
        "/data/train.tsv has no column 'review'; it has review,stars. Values seem to be separated by commas: tsv takes "
        "tabs.",
        GOOD_CSV,
        "tsv",
    ),
    in_train(
        "csv-joined-with-marks",
        "files with byte order marks that were joined",
        _DATA,
        "/data/train.csv, line 4: begins with a byte order mark, as files have at their beginning. Were files joined "
        "here? Take the mark (bytes ef bb bf) out of this line.",
        _MARK + GOOD_CSV.encode() + _MARK + GOOD_CSV.encode(),
    ),
    in_train(
        "tsv-quotes-are-characters",
        "tab-separated values in which a quote is a character",
        NOTICE,
        '/data/train.tsv: quotes (") are read as characters like any other, because the one that begins a value on line 3 does '
        "not end it.",
        'review\tstars\ngood\tpositive\n"Never again\tnegative\nfine\tpositive\n"What a place\tpositive\n',
        "tsv",
    ),
    in_train(
        "tsv-quotes-of-neither-kind",
        "tab-separated values whose quotes fit neither way",
        _DATA,
        '/data/train.tsv, line 3: a quote (") that begins here is never closed. Write a quote within a value twice and quotes '
        'around the value ("say ""so"" again"), or take the quote away. Where quotes are characters like any other, all lines '
        "must have as many tabs.",
        'review\tstars\ngood\tpositive\n"Never again\tnegative\tmore\n',
        "tsv",
    ),
    in_train(
        "web-page-in-text",
        "a sign-in page that was saved as text",
        NOTICE,
        "/data/train.txt is a web page: what a server shows to who is not signed in, or may not read the file. Look at it, and "
        "fetch the file itself, by the link behind `download` or `raw`; unless the text of this page is what is to be learnt.",
        "<!doctype html>\n<title>Sign in</title>\n",
        "txt",
        task="fill-mask",
        dataset__columns={"text": "text"},
        dataset__files={"train": ["/data/train.txt"]},
    ),
    in_train(
        "text-latin-1",
        "a text file in another encoding",
        _DATA,
        "/data/train.txt, line 3: byte 0xe9 is not UTF-8. Convert the file",
        "soup\n\ncafé\n".encode("latin-1"),
        "txt",
        dataset__columns__text="text",
        dataset__columns__label="text.label",
    ),
    in_train(
        "text-column-missing",
        "a column of a text file, which has one alone",
        _COLUMN,
        "/data/train.txt has no column 'review'; it has text. A text file has one column, 'text'.",
        "soup\n",
        "txt",
    ),
    in_train(
        "arrow-in-name-alone",
        "something else in a file called .arrow",
        _DATA,
        "/data/train.arrow is not a readable Arrow file: ",
        GOOD_CSV,
        "arrow",
    ),
    in_train(
        "json-document-without-field",
        "a document of which one key holds the rows",
        _COLUMN,
        "/data/train.json has no column 'review'; it has version, data. If data holds the rows, set spec.dataset.field "
        "to it.",
        _DOCUMENT,
        "json",
    ),
    in_train(
        "json-field-missing",
        "a field that the document does not have",
        _DATA,
        "/data/train.json: there is no key 'rows'; it has version, data. Set spec.dataset.field.",
        _DOCUMENT,
        "json",
        dataset__field="rows",
    ),
    in_train(
        "json-field-no-rows",
        "a field that holds no rows",
        _DATA,
        "/data/train.json: key 'version' (spec.dataset.field) holds '1' where a list of rows is needed.",
        _DOCUMENT,
        "json",
        dataset__field="version",
    ),
    mistake(
        "field-of-csv",
        "a field where files have no keys",
        _DATA,
        "/data/train.csv: spec.dataset.field is 'data', and only a document whose name ends in .json has keys that hold "
        "rows. Leave it out.",
        lambda place: None,
        dataset__field="data",
    ),
    in_train(
        "key-missing",
        "a key that the objects in a column do not have",
        _COLUMN,
        "/data/train.jsonl: the objects in column 'said' have no key 'fr'; they have en.",
        _NESTED,
        "jsonl",
        dataset__columns__text="said.fr",
    ),
    in_train(
        "key-of-text",
        "a key of a column that holds text",
        _COLUMN,
        "/data/train.jsonl: 'review.en' asks for a key of column 'review', which holds 'good soup', no objects with keys.",
        _LINES,
        "jsonl",
        dataset__columns__text="review.en",
    ),
    in_train(
        "jsonl-list-of-mixed-values",
        "text among numbers within a list",
        _DATA,
        "/data/train.jsonl, line 2: column 'stars' holds ['a', 1], in which something is of another kind",
        '{"review": "a", "stars": ["b"]}\n{"review": "b", "stars": ["a", 1]}\n',
        "jsonl",
    ),
    _split(
        "split-of-files-missing",
        "a split that is not among the files",
        "The dataset has no split 'training'; it has train, validation. Did you mean 'train'? Set "
        "spec.dataset.splits.train.",
        "training[:10%]",
    ),
    _split(
        "split-badly-written",
        "a slice that cannot be read",
        "spec.dataset.splits.train is 'train[:ten]': slices are written as train[:10%] or train[100:200], several of "
        "them with +.",
        "train[:ten]",
    ),
    _split(
        "split-without-rows",
        "a slice that holds no row",
        "spec.dataset.splits.validation is 'train[100:200]': that is no row at all: train has 16 rows.",
        "train[100:200]",
        "validation",
    ),
    mistake(
        "validation-fraction-of-few-rows",
        "a validationFraction that leaves nothing to train on",
        _DATA,
        "spec.dataset.validationFraction is 0.9: of the 1 training rows that leaves 1 to train on and 0 to evaluate on. "
        "Both need a row.",
        lambda place: place.write("/data/train.csv", "review,stars\ngood,1\n"),
        dataset__files__validation=None,
        dataset__validationFraction=0.9,
    ),
    mistake(
        "validation-fraction-beside-validation",
        "a validationFraction where there is a validation split",
        _DATASET,
        "spec.dataset.validationFraction cuts off a validation split, and one is named as well: leave one of them out.",
        lambda place: None,
        dataset__validationFraction=0.1,
    ),
    mistake(
        "test-without-its-labels",
        "a test split whose labels are kept secret",
        _LABELS,
        "/data/test.jsonl, line 1: the label '-1' in column 'stars' does not occur in the training data",
        lambda place: place.write("/data/test.jsonl", '{"review": "a", "stars": -1}\n'),
        dataset__files__test=["/data/test.jsonl"],
    ),
    mistake(
        "max-samples-over-test-rows",
        "maxSamples over the number of test rows",
        NOTICE,
        "maxSamples.test is 9, the data has 6 rows: all of them are used.",
        lambda place: None,
        dataset__files__test=["/data/validation.jsonl"],
        dataset__maxSamples={"test": 9},
    ),
)
