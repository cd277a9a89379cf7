"""Write `operator/finetune_operator/api/training_arguments.py` from the installed transformers release.

Run it after transformers was pinned anew: `python scripts/generate_training_arguments.py`. With `--check` it only says
whether the checked-in module is what it would write. What is offered, and why, stands in `training_arguments_table`.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import subprocess
import sys
import textwrap
import types
import typing
from pathlib import Path

import transformers
from training_arguments_table import DEPRECATED, LEFT_OUT, NARROWED, OFFERED, SYSTEM_DEFAULTS

TARGET = Path(__file__).parents[1] / "operator" / "finetune_operator" / "api" / "training_arguments.py"

HEADER = '''"""`spec.trainingArguments`: the arguments of the Hugging Face Trainer, by their own names.

Generated from transformers {version} by scripts/generate_training_arguments.py: do not edit. None means "not given".
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from finetune_operator.api.base import ApiModel

TRANSFORMERS_VERSION = "{version}"
"""Release that these arguments are of."""

Options = Annotated[
    dict[str, bool | int | float | str | None],
    Field(max_length=32, json_schema_extra={{"x-kubernetes-preserve-unknown-fields": True}}),
]
"""Keyword arguments passed on: the names are those of the function that receives them."""


class TrainingArguments(ApiModel):
    """Arguments of the Hugging Face Trainer. What is not given has transformers' default, or the system's."""

    model_config = ConfigDict(alias_generator=None)

'''


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 where the module is out of date")
    arguments = parser.parse_args()
    text = module_text()
    if arguments.check:
        return 0 if TARGET.read_text() == text else 1
    TARGET.write_text(text)
    return 0


def module_text() -> str:
    """The module, formatted as the repository formats its code."""
    fields = {field.name: field for field in dataclasses.fields(transformers.Seq2SeqTrainingArguments)}
    require_complete_tables(set(fields))
    lines = [HEADER.format(version=transformers.__version__)]
    for name, offer in OFFERED.items():
        field = fields[name]
        annotation = annotation_of(name, field.type)
        lines.append(field_text(name, annotation, offer.bounds, with_default(name, offer.description, field.default)))
    for name, old in DEPRECATED.items():
        lines.append(field_text(name, old.annotation, old.bounds, old.description, deprecated=True))
    lines.append(left_out_text())
    return formatted("".join(lines))


def left_out_text() -> str:
    """The table of what is left out, for a message that says why."""
    entries = "".join(f'    "{why}": {names!r},\n' for why, names in LEFT_OUT.items())
    return (
        f'\n\nLEFT_OUT: dict[str, tuple[str, ...]] = {{\n{entries}}}\n"""Why -> arguments that a job cannot give."""\n'
    )


def require_complete_tables(names: set[str]) -> None:
    """Raises where the tables and the release do not hold the same names, each once."""
    left_out = [name for names_left_out in LEFT_OUT.values() for name in names_left_out]
    decided = [*OFFERED, *left_out, *(name for name in DEPRECATED if name in names)]
    twice = sorted({name for name in decided if decided.count(name) > 1})
    undecided, unknown = sorted(names - set(decided)), sorted(set(decided) - names)
    if twice or undecided or unknown:
        raise SystemExit(
            f"training_arguments_table: twice {twice}, undecided {undecided}, not in the release {unknown}"
        )


def annotation_of(name: str, declared: object) -> str:
    """The annotation, as text, of an argument that the dataclass declares with the given type."""
    if name in NARROWED:
        return literal(NARROWED[name])
    choices = [t for t in alternatives(declared) if t is not type(None)]
    for choice in choices:
        if isinstance(choice, type) and issubclass(choice, enum.Enum):
            return literal(tuple(str(member.value) for member in choice))
    if any(choice is dict or typing.get_origin(choice) is dict for choice in choices):
        return "Options"
    if len(choices) == 1 and choices[0] in (bool, int, float, str):
        return str(choices[0].__name__)
    raise SystemExit(f"{name}: cannot say {declared} in a schema")


def alternatives(declared: object) -> tuple[typing.Any, ...]:
    """The members of a union; anything else alone."""
    if typing.get_origin(declared) in (typing.Union, types.UnionType):
        return typing.get_args(declared)
    return (declared,)


def literal(values: tuple[str, ...]) -> str:
    quoted = ", ".join(f'"{value}"' for value in values)
    return f"Literal[{quoted}]"


def with_default(name: str, description: str, default: object) -> str:
    """The description with the default, where there is one and the description does not name it."""
    if name in SYSTEM_DEFAULTS:
        return f"{description} Default: {SYSTEM_DEFAULTS[name]}."
    if default is None or default == "" or "efault" in description:
        return description
    text = str(default).lower() if isinstance(default, bool) else str(getattr(default, "value", default))
    return f"{description} Default: {text}."


def field_text(name: str, annotation: str, bounds: str, description: str, *, deprecated: bool = False) -> str:
    """The lines of one field."""
    if bounds:
        annotation = f"Annotated[{annotation}, Field({bounds})]"
    default = "Field(default=None, deprecated=True)" if deprecated else "None"
    text = textwrap.fill(f'"""{description}"""', 116, break_long_words=False, break_on_hyphens=False)
    return f"    {name}: {annotation} | None = {default}\n{textwrap.indent(text, '    ')}\n"


def formatted(text: str) -> str:
    ruff = [sys.executable, "-m", "ruff", "format", "--line-length", "120", "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(ruff, input=text, capture_output=True, text=True, check=True, cwd=TARGET.parent).stdout


if __name__ == "__main__":
    sys.exit(main())
