"""A manifest means to `finetune` what it means to kubectl: odd words of YAML, through both."""

import json

from finetune_operator.cli.manifest_files import load
from tests.support.cluster.client import Client

WORDS = (
    *(
        "y",
        "Y",
        "no",
        "off",
        "OFF",
        "oFF",
        "TRUE",
        "tRue",
        "~",
        "Null",
        "''",
        '"yes"',
        '"5"',
        '"5e-5"',
        "=",
        ".",
        "+",
        "-x",
    ),
    *(
        "0777",
        "012",
        "09",
        "08.5",
        "00",
        "0o17",
        "0x",
        "0x1F",
        "0X_f",
        "-0x1F",
        "0b11",
        "-0b11",
        "0B11",
        "0b2",
        "+12",
        "-0",
    ),
    *(
        "1__0",
        "1_",
        "_1",
        "0_7",
        "1_000.5",
        "1e_3",
        "1.",
        "1.e-3",
        ".5",
        "+.5",
        "-.5",
        ".5.",
        "1:20",
        "12:30:45",
        "-0.0",
    ),
    *(
        "5e-5",
        "1E5",
        "1e+3",
        "1e5.5",
        "0.1e1",
        "1e16",
        "1e400",
        "123456789012345678",
        "9223372036854775807",
        "3.0",
        "1.50",
    ),
    *("12345678901234567.0", "0.000001", "123456789.123", "2001-01-01", "2001-01-01T00:00:00Z", ".NaN2"),
    *("!!str 5", "!!float 5", "!!binary aGk="),
)
KEYS = ("1", "true", "n", "1.5")
HEAD = """
apiVersion: finetune.dev/v1alpha1
kind: FineTuneJob
metadata: {name: words}
spec:
  task: text-classification
  model: {name: bert}
  dataset: {name: imdb}
  storage: {size: 1Gi}
  template:
"""


def test_every_word_means_the_same(control_plane: Client) -> None:
    lines = [f"    k{number}: {word}" for number, word in enumerate(WORDS)] + [f"    {key}: x" for key in KEYS]
    text = HEAD + "\n".join(lines)

    answer = control_plane.kubectl("create", "--dry-run=server", "--namespace=default", "-ojson", "-f", "-", stdin=text)

    theirs, ours = json.loads(answer.stdout)["spec"]["template"], load(text)[0]["spec"]["template"]
    assert {key: (value, type(value)) for key, value in ours.items()} == {
        key: (value, type(value)) for key, value in theirs.items()
    }
