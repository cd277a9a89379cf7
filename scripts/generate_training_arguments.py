"""Write `operator/finetune_operator/api/training_arguments.py` from the installed transformers release.

Run it after transformers was pinned anew: `python scripts/generate_training_arguments.py`. With `--check` it only says
whether the checked-in module is what it would write. What is offered, and why, stands in `training_arguments_table`.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import inspect
import subprocess
import sys
import textwrap
import types
import typing
from pathlib import Path

import transformers
from torch.optim.lr_scheduler import ReduceLROnPlateau
from training_arguments_table import (
    CHECKPOINTING_OPTIONS,
    DEPRECATED,
    LEFT_OUT,
    NARROWED,
    OFFERED,
    SCHEDULER_OPTIONS,
    SCHEDULER_OPTIONS_LEFT_OUT,
    SYSTEM_DEFAULTS,
    Option,
)
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION, GreedyLR

TARGET = Path(__file__).parents[1] / "operator" / "finetune_operator" / "api" / "training_arguments.py"

HEADER = '''"""`spec.trainingArguments`: the arguments of the Hugging Face Trainer, by their own names.

Generated from transformers {version} by scripts/generate_training_arguments.py: do not edit. None means "not given".
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from finetune_operator.api.api_model import ApiModel

TRANSFORMERS_VERSION = "{version}"
"""Release that these arguments are of."""
'''

CLASS = '''

class {name}(ApiModel):
    """{description}"""

    model_config = ConfigDict(alias_generator=None)

'''

OBJECTS = {"lr_scheduler_kwargs": "SchedulerOptions", "activation_checkpointing_kwargs": "CheckpointingOptions"}
"""Arguments that are objects themselves -> their class."""


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
    """Return the module, formatted as the repository formats its code."""
    fields = {field.name: field for field in dataclasses.fields(transformers.Seq2SeqTrainingArguments)}
    require_complete_tables(set(fields))
    taken = scheduler_options()
    parts = [
        HEADER.format(version=transformers.__version__),
        options_text("SchedulerOptions", "Arguments of one scheduler or another.", described(SCHEDULER_OPTIONS, taken)),
        options_text("CheckpointingOptions", "Arguments of activation checkpointing.", CHECKPOINTING_OPTIONS),
        CLASS.format(
            name="TrainingArguments", description="Arguments of the Hugging Face Trainer, by their own names."
        ),
    ]
    for name, offer in OFFERED.items():
        field = fields[name]
        annotation = OBJECTS.get(name) or annotation_of(name, field.type)
        parts.append(field_text(name, annotation, offer.bounds, with_default(name, offer.description, field.default)))
    for name, old in DEPRECATED.items():
        parts.append(field_text(name, old.annotation, old.bounds, old.description, deprecated=True))
    parts.append(table_text("SCHEDULER_OPTIONS", taken, "Scheduler -> keyword arguments that it takes."))
    parts.append(table_text("LEFT_OUT", LEFT_OUT, "Why -> arguments that a job cannot give."))
    return formatted("".join(parts))


def require_complete_tables(names: set[str]) -> None:
    """Raise where the tables and the release do not hold the same names, each once."""
    left_out = [name for names_left_out in LEFT_OUT.values() for name in names_left_out]
    decided = [*OFFERED, *left_out, *(name for name in DEPRECATED if name in names)]
    twice = sorted({name for name in decided if decided.count(name) > 1})
    undecided, unknown = sorted(names - set(decided)), sorted(set(decided) - names)
    if twice or undecided or unknown:
        raise SystemExit(
            f"training_arguments_table: twice {twice}, undecided {undecided}, not in the release {unknown}"
        )


def scheduler_options() -> dict[str, tuple[str, ...]]:
    """Map each scheduler to the keyword arguments that it takes, from the signatures of the release."""
    classes = {"reduce_lr_on_plateau": ReduceLROnPlateau.__init__, "greedy": GreedyLR.__init__}
    fixed = {"self", "optimizer", "num_warmup_steps", "num_training_steps", "last_epoch", *SCHEDULER_OPTIONS_LEFT_OUT}
    taken = {
        scheduler.value: tuple(
            name for name in inspect.signature(classes.get(scheduler.value, function)).parameters if name not in fixed
        )
        for scheduler, function in TYPE_TO_SCHEDULER_FUNCTION.items()
    }
    if unknown := {name for names in taken.values() for name in names} ^ set(SCHEDULER_OPTIONS):
        raise SystemExit(f"training_arguments_table: SCHEDULER_OPTIONS and the release differ in {sorted(unknown)}")
    return taken


def described(options: dict[str, Option], taken: dict[str, tuple[str, ...]]) -> dict[str, Option]:
    """Return the options, each with the schedulers that take it in its description."""

    def takers(name: str) -> str:
        return ", ".join(scheduler for scheduler, names in taken.items() if name in names)

    return {
        name: option._replace(description=f"{option.description} For {takers(name)}.")
        for name, option in options.items()
    }


def annotation_of(name: str, declared: object) -> str:
    """Return the annotation, as text, of an argument that the dataclass declares with the given type."""
    if name in NARROWED:
        return literal(NARROWED[name])
    choices = [choice for choice in alternatives(declared) if choice is not type(None)]
    for choice in choices:
        if isinstance(choice, type) and issubclass(choice, enum.Enum):
            return literal(tuple(str(member.value) for member in choice))
    if len(choices) == 1 and choices[0] in (bool, int, float, str):
        return str(choices[0].__name__)
    raise SystemExit(f"{name}: cannot say {declared} in a schema")


def alternatives(declared: object) -> tuple[typing.Any, ...]:
    """Return the members of a union; anything else alone."""
    if typing.get_origin(declared) in (typing.Union, types.UnionType):
        return typing.get_args(declared)
    return (declared,)


def literal(values: tuple[str, ...]) -> str:
    quoted = ", ".join(f'"{value}"' for value in values)
    return f"Literal[{quoted}]"


def with_default(name: str, description: str, default: object) -> str:
    """Return the description with the default, where there is one and the description does not name it."""
    if name in SYSTEM_DEFAULTS:
        return f"{description} Default: {SYSTEM_DEFAULTS[name]}."
    if default is None or default == "" or "efault" in description:
        return description
    text = str(default).lower() if isinstance(default, bool) else str(getattr(default, "value", default))
    return f"{description} Default: {text}."


def options_text(name: str, description: str, options: dict[str, Option]) -> str:
    """Return the text of a class of keyword arguments."""
    fields = (
        field_text(name, option.annotation, option.bounds, option.description) for name, option in options.items()
    )
    return CLASS.format(name=name, description=description) + "".join(fields)


def field_text(name: str, annotation: str, bounds: str, description: str, *, deprecated: bool = False) -> str:
    """Return the lines of one field."""
    if bounds:
        annotation = f"Annotated[{annotation}, Field({bounds})]"
    default = "Field(default=None, deprecated=True)" if deprecated else "None"
    text = textwrap.fill(f'"""{description}"""', 116, break_long_words=False, break_on_hyphens=False)
    return f"    {name}: {annotation} | None = {default}\n{textwrap.indent(text, '    ')}\n"


def table_text(name: str, table: dict[str, tuple[str, ...]], docstring: str) -> str:
    """Return the text of a constant, for rules and messages."""
    entries = "".join(f'    "{key}": {values!r},\n' for key, values in table.items())
    return f'\n\n{name}: dict[str, tuple[str, ...]] = {{\n{entries}}}\n"""{docstring}"""\n'


def formatted(text: str) -> str:
    ruff = [sys.executable, "-m", "ruff", "format", "--line-length", "120", "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(ruff, input=text, capture_output=True, text=True, check=True, cwd=TARGET.parent).stdout


if __name__ == "__main__":
    sys.exit(main())
