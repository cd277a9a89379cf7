"""Files that cannot be read as what their names say, or that lack a column."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.bad_input.place import GOOD_CSV, NOTICE, Mistake, Place, in_train, in_validation, mistake

_LINE = '{"review": "good soup", "stars": 1}\n'
_DATA, _FILE, _COLUMN = "DataInvalid", "FileNotFound", "ColumnNotFound"
_PARQUET = {"dataset__files__train": ["/data/train.parquet"]}


def _parquet(path: Path, names: tuple[str, ...] = ("review", "stars"), rows: int = 200) -> None:
    columns = [pa.array([index % 2 for index in range(rows)] if name == "stars" else ["good"] * rows) for name in names]
    pq.write_table(pa.Table.from_arrays(columns, names=list(names)), path)


def _parquet_with_doubled_column(place: Place) -> None:
    _parquet(place.local("/data/train.parquet"), ("review", "review", "stars"))


def _cut_parquet(place: Place) -> None:
    path = place.local("/data/train.parquet")
    _parquet(path)
    path.write_bytes(path.read_bytes()[:-50])


def _parquet_without_rows(place: Place) -> None:
    _parquet(place.local("/data/train.parquet"), rows=0)


def _parquet_in_latin_1(place: Place) -> None:
    """Write Parquet as a program in C++ does that does not check the encoding."""
    texts = pa.array([b"good", "caf\u00e9".encode("latin-1")])
    text = pa.Array.from_buffers(pa.string(), 2, texts.buffers())
    pq.write_table(pa.table({"review": text, "stars": [1, 0]}), place.local("/data/train.parquet"))


def _folder(place: Place) -> None:
    place.local("/data/train.csv").unlink()
    place.local("/data/train.csv").mkdir()
    place.write("/data/train.csv/part-0.csv", GOOD_CSV)


def _closed_file(place: Place) -> None:
    place.show_to_pods_user()
    place.local("/data/train.csv").chmod(0)


def _closed_folder(place: Place) -> None:
    place.show_to_pods_user()
    place.write("/data/closed/train.csv", GOOD_CSV)
    place.local("/data/closed").chmod(0)


FILES: tuple[Mistake, ...] = (
    mistake(
        "file-missing",
        "a file that is not there",
        _FILE,
        "/data/train.csv does not exist. /data holds validation.jsonl.",
        lambda place: place.local("/data/train.csv").unlink(),
    ),
    mistake(
        "file-folder-missing",
        "a file in a folder that is not there",
        _FILE,
        "/data/nope/train.csv does not exist. The folder /data/nope does not exist either: is the volume mounted "
        "(spec.volumes)?",
        lambda place: None,
        dataset__files__train=["/data/nope/train.csv"],
    ),
    mistake(
        "file-folder",
        "a folder in place of a file",
        _FILE,
        "/data/train.csv is a folder; name the files in it: part-0.csv.",
        _folder,
    ),
    mistake(
        "file-unreadable",
        "a file that the pods' user may not read",
        _FILE,
        "The pods' user (uid 10001, gid 10001) may not read /data/train.csv: it belongs to uid 0, gid 0, mode 0000. "
        "Run `chmod o+r /data/train.csv` where it is stored.",
        _closed_file,
    ),
    mistake(
        "file-in-closed-folder",
        "a file in a folder that the pods' user may not enter",
        _FILE,
        "/data/closed/train.csv cannot be reached: The pods' user (uid 10001, gid 10001) may not enter the folder "
        "/data/closed: it belongs to uid 0, gid 0, mode 0000.",
        _closed_folder,
        dataset__files__train=["/data/closed/train.csv"],
    ),
    in_train(
        "file-extension",
        "a file of an unknown kind",
        _DATA,
        "/data/train.xlsx: cannot read .xlsx; use .csv, .tsv, .json, .jsonl, .txt, .parquet, .arrow, the text formats also "
        "packed as .gz, .bz2, .xz, .zst.",
        GOOD_CSV,
        "xlsx",
    ),
    in_train("file-empty", "an empty file", _DATA, "/data/train.csv is empty.", ""),
    in_train(
        "csv-header-only",
        "a csv file with a header and no rows",
        _DATA,
        "/data/train.csv has no rows.",
        "review,stars\n",
    ),
    in_train("csv-blank", "a csv file of blank lines", _DATA, "/data/train.csv has no rows.", "\n\n"),
    in_train("jsonl-blank", "a jsonl file of blank lines", _DATA, "/data/train.jsonl has no rows.", "\n\n", "jsonl"),
    in_train("json-without-rows", "an empty array", _DATA, "/data/train.json has no rows.", "[]", "json"),
    mistake(
        "parquet-without-rows",
        "a parquet file without rows",
        _DATA,
        "/data/train.parquet has no rows.",
        _parquet_without_rows,
        **_PARQUET,
    ),
    in_train(
        "csv-ragged",
        "a line with more or fewer values than the header",
        _DATA,
        "/data/train.csv, line 4: 3 values where the header has 2. Quote values that hold commas.",
        f"{GOOD_CSV}fine, really,1\n",
    ),
    in_train(
        "csv-ragged-after-line-break",
        "the same after a value of two lines",
        _DATA,
        "/data/train.csv, line 4: 1 values where the header has 2.",
        'review,stars\n"two\nlines",1\nbad\n',
    ),
    in_train(
        "csv-open-quote",
        "a quote that is never closed",
        _DATA,
        '/data/train.csv, line 4: a quote (") that begins here is never closed.',
        f'{GOOD_CSV}fine,"1\nbad,0\n',
    ),
    in_train(
        "csv-quotes-across-lines",
        "quotes that begin a value, and text behind the next one",
        _DATA,
        '/data/train.csv, line 3: a value begins with a quote ("), and behind the quote that should end it, on line 5, text '
        'follows. Write a quote within a value twice and quotes around the value ("say ""so"" again"), or take the quote away.',
        'review,stars\ngood,1\n"Never again,0\nfine,1\n"What a place,1\nstale,0\n',
    ),
    in_train(
        "csv-row-too-long",
        "a row of csv that is longer than any text",
        _DATA,
        '/data/train.csv is not valid csv: a row is longer than 4 MiB; is a quote (") not closed?',
        f"{GOOD_CSV}{'soup ' * 2_000_000},1\n",
    ),
    in_train(
        "csv-other-separator",
        "values separated by semicolons",
        _COLUMN,
        "/data/train.csv has no column 'review'; it has review;stars. Values seem to be separated by semicolons: csv "
        "takes commas.",
        "review;stars\ngood;1\n",
    ),
    in_train(
        "csv-first-line-for-excel",
        "a first line that tells Excel the separator",
        _COLUMN,
        "/data/train.csv has no column 'review'; it has sep=, ''. Line 1 tells Excel how values are separated, and nobody else: "
        "take it out.",
        f"sep=,\n{GOOD_CSV}",
    ),
    in_train(
        "csv-quote-behind-white-space",
        "a value that begins with white space and then a quote",
        NOTICE,
        '/data/train.csv, line 3: a value begins with white space and then a quote ("): both are read as characters of it. If the '
        "value is meant to stand in quotes take the white space away.",
        'review,stars\ngood,bad\ncold, "bad"\n',
        dataset__files={"train": ["/data/train.csv"]},
    ),
    in_train(
        "csv-nul",
        "a NUL byte, as a file system leaves it where a write was cut off",
        _DATA,
        "/data/train.csv, line 1002: holds a NUL byte, which is in no text. Was the file cut off while it was written or copied, "
        "or is it no text at all? If nothing is missing, `tr -d '\\0'` takes such bytes out.",
        "review,stars\n" + "good soup,1\n" * 1000 + "bad\0,0\n",
    ),
    in_train(
        "jsonl-nul",
        "the same in jsonl",
        _DATA,
        "/data/train.jsonl, line 2: holds a NUL byte",
        f"{_LINE}\0\0\0\0",
        "jsonl",
    ),
    in_train(
        "csv-column-twice",
        "a column that is there twice",
        _DATA,
        "/data/train.csv, line 1: column review is there twice. Give each a name of its own.",
        "review,review,stars\na,b,1\n",
    ),
    in_train(
        "jsonl-key-twice",
        "a key that is there twice",
        _DATA,
        "/data/train.jsonl, line 2: column 'review' is there twice. Give each a name of its own.",
        f'{_LINE}{{"review": "a", "review": "b", "stars": 0}}\n',
        "jsonl",
    ),
    mistake(
        "parquet-column-twice",
        "a column of a parquet file that is there twice",
        _DATA,
        "/data/train.parquet: column review is there twice.",
        _parquet_with_doubled_column,
        **_PARQUET,
    ),
    in_train(
        "jsonl-broken",
        "a broken line of json",
        _DATA,
        "/data/train.jsonl, line 3 is not valid JSON: Expecting property name enclosed in double quotes at column 17.",
        f'{_LINE}\n{{"review": "x", \n',
        "jsonl",
    ),
    in_train(
        "jsonl-comma-behind-rows",
        "a comma behind each row",
        _DATA,
        "/data/train.jsonl, line 1 is not valid JSON: Extra data at column 36. A row is all of its line: take the comma at its end "
        "away.",
        _LINE.replace("}", "},"),
        "jsonl",
    ),
    in_train(
        "jsonl-of-python",
        "rows as Python writes them",
        _DATA,
        "/data/train.jsonl, line 1 is not valid JSON: Expecting property name enclosed in double quotes at column 2. In Python "
        "json.dumps writes it, str does not.",
        "{'review': 'good soup', 'stars': 1}\n",
        "jsonl",
    ),
    in_train(
        "jsonl-is-an-array",
        "one array of rows, in a file called .jsonl",
        _DATA,
        "/data/train.jsonl, line 1: [{'review': 'good soup', 'stars': 1}] where an object is needed. This is one array of rows: let "
        "the file's name end in .json.",
        f"[{_LINE.strip()}]",
        "jsonl",
    ),
    in_train(
        "jsonl-is-an-array-on-lines",
        "the same over several lines",
        _DATA,
        "/data/train.jsonl, line 1 is not valid JSON: Expecting value at column 2. This is one array of rows: let the file's name "
        "end in .json.",
        f"[\n{_LINE}]",
        "jsonl",
    ),
    in_train(
        "jsonl-of-arrays",
        "a line that is no object",
        _DATA,
        "/data/train.jsonl, line 2: [1, 2] where an object is needed.",
        f"{_LINE}[1, 2]\n",
        "jsonl",
    ),
    in_train(
        "json-broken",
        "broken json",
        _DATA,
        "/data/train.json, line 3 is not valid JSON: Expecting value at column 12.",
        '[\n{"review": "a", "stars": 1},\n{"review": }\n]',
        "json",
    ),
    in_train(
        "json-no-list",
        "json that is no list of rows",
        _DATA,
        "/data/train.json, line 1 is not valid JSON: Expecting property name enclosed in double quotes at column 2. This "
        "is one document; if one of its keys (data) holds the rows, set spec.dataset.field to it.",
        '{\n"data": [{"review": "a", "stars": 1}]\n}\n',
        "json",
    ),
    in_train(
        "json-of-texts",
        "a list of something else than objects",
        _DATA,
        "/data/train.json, row 1: 'b' where an object is needed.",
        '[{"review": "a", "stars": 1}, "b"]',
        "json",
    ),
    mistake(
        "parquet-cut",
        "a parquet file that was not copied as a whole",
        _DATA,
        "/data/train.parquet is not a readable parquet file: Parquet magic bytes not found in footer.",
        _cut_parquet,
        **_PARQUET,
    ),
    in_train(
        "json-by-columns",
        "a document with a key for each column, as pandas writes it",
        _DATA,
        "/data/train.json, line 1: this is one document with a key for each column, as DataFrame.to_json() writes it. Rows are "
        'needed: write it with df.to_json(path, orient="records", lines=True).',
        '{"review": {"0": "good", "1": "cold"}, "stars": {"0": 1, "1": 0}}',
        "json",
    ),
    in_train(
        "json-by-columns-of-lists",
        "a document with a list for each column",
        _DATA,
        "/data/train.json, line 1: this is one document with a key for each column",
        '{"review": ["good", "cold"], "stars": [1, 0]}',
        "json",
    ),
    in_train(
        "json-by-columns-on-lines",
        "the same over several lines",
        _DATA,
        "at column 2. But this is one document with a key for each column, as DataFrame.to_json() writes it.",
        '{\n"review": {"0": "good", "1": "cold"},\n"stars": {"0": 1, "1": 0}\n}',
        "json",
    ),
    in_train(
        "json-by-rows",
        "a document with a key for each row, as pandas writes it",
        _DATA,
        '/data/train.json, line 1: this is one document with a key for each row, as to_json(orient="index") writes it.',
        '{"0": {"review": "good", "stars": 1}, "1": {"review": "cold", "stars": 0}}',
        "json",
    ),
    in_train(
        "json-by-named-rows",
        "the same where rows have names",
        _DATA,
        '/data/train.json, line 1: this is one document with a key for each row, as to_json(orient="index") writes it.',
        '{"a": {"review": "good", "stars": 1}, "b": {"review": "cold", "stars": 0}}',
        "json",
    ),
    in_train(
        "json-of-values",
        "a list of rows without the names of columns, as pandas writes it",
        _DATA,
        "/data/train.json, row 0: ['good', 1] where an object is needed. A row of a table without its names: rows have a key for "
        'each column, as to_json(orient="records") writes them.',
        '[["good", 1], ["cold", 0]]',
        "json",
    ),
    in_train(
        "json-in-parts",
        "a document of columns and data, as pandas writes it",
        _DATA,
        '/data/train.json, line 1: this is one document of columns and data, as to_json(orient="split") writes it.',
        '{"columns": ["review", "stars"], "index": [0, 1], "data": [["good", 1], ["cold", 0]]}',
        "json",
    ),
    in_train(
        "web-page-in-csv",
        "a sign-in page that was saved as csv",
        _DATA,
        "/data/train.csv is a web page: what a server shows to who is not signed in, or may not read the file. Look at it, and "
        "fetch the file itself, by the link behind `download` or `raw`.",
        "\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n",
    ),
    in_train(
        "web-page-in-parquet",
        "the same as parquet",
        _DATA,
        "/data/train.parquet is a web page",
        "<html><body>Sign in</body></html>\n",
        "parquet",
    ),
    in_train(
        "web-page-in-packed-file",
        "the same as a packed file",
        _DATA,
        "/data/train.csv.gz is a web page",
        "<html><body>Sign in</body></html>\n",
        "csv.gz",
    ),
    in_train(
        "jsonl-half-a-character",
        "a text that was cut in the middle of an emoji",
        _DATA,
        "/data/train.jsonl, line 2: column 'review' holds half a character ('\\ud83d'), which is no text in UTF-8: was a text "
        "cut in the middle of an emoji? Mend such rows (in Python: text.encode('utf-16', 'surrogatepass').decode('utf-16', "
        "'ignore')), or leave them out.",
        _LINE + r'{"review": "cut off here \ud83d", "stars": 0}' + "\n",
        "jsonl",
    ),
    mistake(
        "parquet-not-utf-8",
        "text in parquet that is no UTF-8",
        _DATA,
        "/data/train.parquet, row 1: column 'review' holds byte 0xe9 in text that is no UTF-8.",
        _parquet_in_latin_1,
        **_PARQUET,
    ),
    in_train(
        "parquet-in-csv",
        "parquet in a file called .csv",
        _DATA,
        "/data/train.csv holds parquet; let its name end in .parquet.",
        b"PAR1 and so on",
    ),
    in_train(
        "csv-in-parquet",
        "csv in a file called .parquet",
        _DATA,
        "/data/train.parquet is not a readable parquet file: Parquet magic bytes not found in footer.",
        GOOD_CSV,
        "parquet",
    ),
    in_train(
        "file-compressed",
        "a compressed file",
        _DATA,
        "/data/train.jsonl is compressed with gzip; let its name end in .gz.",
        gzip.compress(_LINE.encode(), mtime=0),
        "jsonl",
    ),
    in_train(
        "file-of-git-lfs",
        "what Git leaves in place of a large file",
        _DATA,
        "/data/train.csv is a pointer of Git LFS in place of the file; fetch it with `git lfs pull`.",
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n",
    ),
    in_train(
        "csv-latin-1",
        "csv in another encoding",
        _DATA,
        "/data/train.csv, line 4: byte 0xe9 is not UTF-8. Convert the file, for example with `iconv -f latin1 -t utf-8`.",
        f"{GOOD_CSV}café,0\n".encode("latin-1"),
    ),
    in_train(
        "jsonl-latin-1",
        "jsonl in another encoding",
        _DATA,
        "/data/train.jsonl, line 2: byte 0xe9 is not UTF-8.",
        f'{_LINE}{{"review": "café", "stars": 0}}\n'.encode("latin-1"),
        "jsonl",
    ),
    in_train(
        "json-latin-1",
        "an array in another encoding",
        _DATA,
        "/data/train.json, line 1: byte 0xe9 is not UTF-8.",
        '[{"review": "café", "stars": 0}]'.encode("latin-1"),
        "json",
    ),
    in_train(
        "csv-of-windows",
        "csv in the encoding of Windows",
        _DATA,
        "/data/train.csv, line 4: byte 0x93 is not UTF-8. Convert the file, for example with `iconv -f cp1252 -t utf-8`.",
        f"{GOOD_CSV}\u201cfine\u201d,0\n".encode("cp1252"),
    ),
    in_train(
        "csv-utf-16-without-mark",
        "csv in UTF-16 without a byte order mark",
        _DATA,
        "/data/train.csv, line 1: not UTF-8 but UTF-16. Convert the file, for example with `iconv -f utf-16 -t utf-8`.",
        GOOD_CSV.encode("utf-16-le"),
    ),
    in_train(
        "csv-utf-16",
        "csv as a spreadsheet exports Unicode",
        _DATA,
        "/data/train.csv, line 1: not UTF-8 but UTF-16. Convert the file, for example with `iconv -f utf-16 -t utf-8`.",
        GOOD_CSV.encode("utf-16"),
    ),
    in_train(
        "column-missing",
        "a column that the file does not have",
        _COLUMN,
        "/data/train.csv has no column 'review'; it has reviews, stars. Did you mean 'reviews'? Name the right one in "
        "spec.dataset.columns.",
        "reviews,stars\ngood,1\n",
    ),
    in_train(
        "column-with-white-space",
        "a column whose name has white space around it",
        _COLUMN,
        "/data/train.csv has no column 'stars'; it has review, ' stars'. Did you mean ' stars', which begins with white space? "
        "Name the right one in spec.dataset.columns.",
        "review, stars\ngood,1\n",
    ),
    in_train(
        "column-missing-in-jsonl",
        "a column that no line has",
        _COLUMN,
        "/data/train.jsonl has no column 'stars'; it has review, label. Name the right one in spec.dataset.columns.",
        '{"review": "a", "label": 1}\n',
        "jsonl",
    ),
    mistake(
        "column-missing-in-parquet",
        "a column that a parquet file does not have",
        _COLUMN,
        "/data/train.parquet has no column 'stars'; it has review, rating.",
        lambda place: _parquet(place.local("/data/train.parquet"), ("review", "rating")),
        **_PARQUET,
    ),
    in_validation(
        "column-missing-in-validation",
        "validation data with other columns than the training data",
        _COLUMN,
        "/data/validation.jsonl has no column 'review'; it has text, stars.",
        '{"text": "a", "stars": "positive"}\n',
    ),
    mistake(
        "column-for-two-roles",
        "one column for text and label",
        _COLUMN,
        "spec.dataset.columns names one column for two roles: review.",
        lambda place: None,
        dataset__columns__label="review",
    ),
)
