"""What a program tells of itself by its syntax tree: files beside it, packages, models and datasets it names, options it knows.

The program is never run or imported. What is found here is a proposal: names that are put together at run time are not seen.
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from finetune_operator.cli.init.program_files import is_file, is_folder
from finetune_operator.cli.init.secret_words import is_secret_value

SOURCE_MAX_BYTES = 4 << 20
FILES_MAX = 50
TORCH_PACKAGES = frozenset(("torch", "transformers", "accelerate", "trl", "peft", "lightning", "pytorch_lightning"))
OTHER_FRAMEWORKS = frozenset(("tensorflow", "keras", "tf_keras", "jax", "flax", "torch_xla"))
IN_THE_IMAGE = frozenset(
    (
        *("torch", "transformers", "accelerate", "datasets", "tokenizers", "huggingface_hub", "peft", "safetensors"),
        *("numpy", "pandas", "scipy", "sklearn", "pyarrow", "nltk", "regex", "tqdm", "yaml", "requests", "fsspec"),
        *(
            "filelock",
            "packaging",
            "jinja2",
            "aiohttp",
            "sentencepiece",
            "google",
            "rouge_score",
            "sacrebleu",
            "seqeval",
        ),
        *("sacremoses", "structlog", "pydantic", "psutil", "dill", "joblib", "bitsandbytes", "typing_extensions"),
        *("finetune_trainer", "pkg_resources", "triton"),
    )
)
"""Packages of the training image."""
INSTALLED_AS = {
    # Package as it is imported -> as it is installed.
    **{name: name for name in ("evaluate", "trl", "wandb", "tensorboard", "mlflow", "einops", "timm", "jiwer")},
    **{name: name for name in ("librosa", "soundfile", "diffusers", "torchvision", "torchaudio", "deepspeed")},
    **{name: name for name in ("lightning", "albumentations")},
    "PIL": "pillow",
    "bert_score": "bert-score",
    "cv2": "opencv-python-headless",
    "pytorch_lightning": "pytorch-lightning",
    "sentence_transformers": "sentence-transformers",
}
"""Well-known packages beyond those of the image. Others are named to the user: a name that is guessed may be somebody else's package."""


@dataclass(frozen=True)
class ProgramSource:
    """A program of this machine, as far as its text tells."""

    imports: frozenset[str] = frozenset()
    """Packages that are neither the standard library's nor beside the program."""
    beside: tuple[Path, ...] = ()
    """Python files of the program's folder that it imports, directly or not."""
    folders: tuple[str, ...] = ()
    """Packages beside the program that it imports."""
    models: tuple[str, ...] = ()
    datasets: tuple[tuple[str, ...], ...] = ()
    """Name, and where it is given the configuration, of each dataset that is loaded by a literal name."""
    loads_metrics: bool = False
    """It loads metrics with `evaluate`, which come from the Hub."""
    has_output_option: bool = False
    has_resume_option: bool = False
    syntax_error: str = ""
    secret_line: int | None = None

    @property
    def is_torch(self) -> bool:
        return bool(self.imports & TORCH_PACKAGES) and not self.imports & OTHER_FRAMEWORKS


def of_module(module: str) -> ProgramSource:
    """Return what is known of a module that is not here."""
    return ProgramSource(
        imports=frozenset((module.partition(".")[0],)), has_output_option=module.startswith("trl.scripts.")
    )


def read(program: Path) -> ProgramSource:
    """Read a program, and the files beside it that it imports."""
    text, tree = _parsed(program)
    if isinstance(tree, str):
        return ProgramSource(syntax_error=tree, secret_line=_secret_line(text))
    imports: set[str] = set()
    files: dict[str, Path] = {}
    folders: set[str] = set()
    trees = [tree]
    for current in trees:  # grows while files beside the program are found
        for name in _imported(current):
            file, folder = program.parent / f"{name}.py", program.parent / name
            if name in files or name in sys.stdlib_module_names or file == program:
                continue
            if is_file(file) and len(files) < FILES_MAX:
                files[name] = file
                _, other = _parsed(file)
                trees += [other] if not isinstance(other, str) else []
            elif is_folder(folder) and any(folder.glob("*.py")):
                folders.add(name)
            else:
                imports.add(name)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    takes_trainer_options = "TrlParser" in text or ("HfArgumentParser" in text and "TrainingArguments" in text)
    return ProgramSource(
        imports=frozenset(imports),
        beside=tuple(sorted(files.values())),
        folders=tuple(sorted(folders)),
        models=tuple(dict.fromkeys(literals[0] for literals in _literals(calls, "from_pretrained"))),
        datasets=tuple(dict.fromkeys(literals[:2] for literals in _literals(calls, "load_dataset"))),
        loads_metrics="evaluate" in imports and any(_literals(calls, "load")),
        has_output_option="--output_dir" in text or "--output-dir" in text or takes_trainer_options,
        has_resume_option="--resume_from_checkpoint" in text
        or (takes_trainer_options and ".resume_from_checkpoint" in text),
        secret_line=_secret_line(text),
    )


def _parsed(path: Path) -> tuple[str, ast.Module | str]:
    """Return the text of a file, and its syntax tree or what is wrong with it."""
    try:
        content = path.read_bytes()[:SOURCE_MAX_BYTES]
    except OSError as error:
        return "", f"{path.name}: {error.strerror}"
    text = content.decode("utf-8", "replace")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return text, ast.parse(content)
    except SyntaxError as error:
        return text, f"{path.name}:{error.lineno or 1}:{error.offset or 1}: {error.msg}"
    except (ValueError, RecursionError, MemoryError):
        return text, f"{path.name}: no program in Python"


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level <= 1:
            yield node.module.partition(".")[0]


def _literals(calls: list[ast.Call], function: str) -> Iterator[tuple[str, ...]]:
    """Yield the leading arguments that are literal text, of each call of a function or method."""
    for call in calls:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        literals: list[str] = []
        for argument in call.args:
            if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
                break
            literals.append(argument.value)
        if name == function and literals:
            yield tuple(literals)


def _secret_line(text: str) -> int | None:
    return next((number for number, line in enumerate(text.splitlines(), 1) if is_secret_value(line)), None)
