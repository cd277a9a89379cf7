"""`finetune init`: prints the manifest, and on standard error what was taken out and what is left to do."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from finetune_operator.cli.command_errors import CommandError, ExitCode
from finetune_operator.cli.init import launch_command, questions, remarks
from finetune_operator.cli.init.draft import HUB_SECRET, Draft, comments, document
from finetune_operator.cli.init.manifest_text import config_map_text, manifest_text
from finetune_operator.cli.init.program_draft import draft_of
from finetune_operator.cli.init.program_files import is_file, is_folder
from finetune_operator.cli.init.secret_words import is_secret_value, without_secrets
from finetune_operator.cli.terminal import safe
from finetune_operator.cli.validate import problems

CONFIG_MAP_MAX_BYTES = 900 << 10
SHORT_SECRET = 8
"""Characters below which a secret may well be a common word."""


def init(
    words: Sequence[str], *, name: str | None, output: Path | None, force: bool, with_config_map: bool
) -> ExitCode:
    """Write the manifest of a command line; without one, ask what to train. Raise CommandError where that can't be done."""
    folder = Path.cwd()
    if output is not None:
        _refuse_existing(output, force)
    if words:
        draft = draft_of(launch_command.parse(words), folder, name)
    else:
        draft, output = questions.ask(folder, name, output, force=force)
    text = manifest(draft, with_config_map=with_config_map)
    _refuse_secrets(text, draft)
    if output is None:
        sys.stdout.write(text)
    else:
        _write(output, text, force)
    for line in (*remarks.lines(draft.remarks), *next_steps(draft, output, folder, with_config_map=with_config_map)):
        print(_without_secrets(line, draft), file=sys.stderr)
    return ExitCode.SUCCEEDED


def manifest(draft: Draft, *, with_config_map: bool) -> str:
    """Return the YAML of a job that an API server accepts. Raise CommandError where the command asks for one that it would not."""
    job = document(draft)
    wrong = problems(job)
    if wrong:
        raise CommandError("\n".join(_without_secrets(problem, draft) for problem in wrong), ExitCode.FAILED)
    head = f"# {draft.title}. Written by `finetune init`.\n"
    text = (head if head.strip().isprintable() else "") + manifest_text(job, comments(draft))
    if not with_config_map:
        return text
    return f"{text}---\n{config_map_text(_config_map_name(draft), _program_texts(draft))}"


def next_steps(draft: Draft, output: Path | None, folder: Path, *, with_config_map: bool) -> list[str]:
    """Return the commands that are left to the user."""
    steps = []
    if draft.needs_hub_token:
        steps.append(f"kubectl create secret generic {HUB_SECRET['name']} --from-literal={HUB_SECRET['key']}=...")
    if draft.program_files and not with_config_map:
        steps.append(f"kubectl create configmap {_config_map_name(draft)} {' '.join(_from_files(draft, folder))}")
    file = output if output is not None else folder / "job.yaml"
    local = f"finetune run {_shown_path(file, folder)}"
    if draft.data_folder is not None:
        root = _shown_path(draft.data_folder, folder)
        steps.append(f"copy {root} to a claim {draft.name}-data")
        local += f" --volume {draft.name}-data={root}"
    programs = {program.parent for program in draft.program_files.values()}
    if programs and programs != {(folder / file).parent}:
        local += f" --config-map {_config_map_name(draft)}={_shown_path(min(programs), folder)}"
    steps.append(f"kubectl apply -f {_shown_path(file, folder)}")
    if draft.runs_here:
        steps.append(f"or here, without a cluster: {local}")
    return [f"next: {steps[0]}", *(f"      {step}" for step in steps[1:])]


def _shown_path(path: Path, folder: Path) -> str:
    """Return a path for a command that is typed in `folder`."""
    return shlex.quote(str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path))


def _from_files(draft: Draft, folder: Path) -> list[str]:
    """Return the options by which kubectl reads the program's files."""
    options = []
    for key, file in draft.program_files.items():
        prefix = "" if key == file.name else f"{key}="
        options.append(f"--from-file={prefix}{_shown_path(file, folder)}")
    return options


def _config_map_name(draft: Draft) -> str:
    name: str = ((draft.script or {}).get("configMap") or {}).get("name", "")
    if not name:
        raise CommandError("--with-configmap: the program is no file of this machine")
    return name


def _program_texts(draft: Draft) -> dict[str, str]:
    """Read the files of the program for a ConfigMap. Raise CommandError where it can't hold them."""
    texts: dict[str, str] = {}
    for key, file in draft.program_files.items():
        try:
            texts[key] = file.read_bytes().decode("utf-8")
        except OSError as error:
            raise CommandError(f"--with-configmap: {file.name}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise CommandError(f"--with-configmap: {file.name}: not UTF-8 text (byte {error.start})") from error
        secret = next((number for number, line in enumerate(texts[key].splitlines(), 1) if is_secret_value(line)), None)
        if secret is not None:
            raise CommandError(
                f"--with-configmap: {file.name}:{secret}: holds what looks like a secret, which everybody who may read the ConfigMap "
                "would read: take it from an environment variable"
            )
    size = sum(len(text.encode()) for text in texts.values())
    if size > CONFIG_MAP_MAX_BYTES:
        raise CommandError(
            f"--with-configmap: the program has {size >> 10} KiB, and a ConfigMap holds {CONFIG_MAP_MAX_BYTES >> 10}: build an image "
            "with it, or put it on a volume, and give its path"
        )
    return texts


def _refuse_existing(output: Path, force: bool) -> None:
    if is_folder(output):
        raise CommandError(f"{output}: is a folder")
    if is_file(output) and not force:
        raise CommandError(f"{output}: is there already; --force overwrites it")


def _write(output: Path, text: str, force: bool) -> None:
    try:
        with output.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise CommandError(f"{output}: is there already; --force overwrites it") from error
    except OSError as error:
        raise CommandError(f"{output}: {error.strerror}") from error
    print(f"wrote {output}", file=sys.stderr)


def _refuse_secrets(text: str, draft: Draft) -> None:
    """Refuse to write a secret that the command gives a second time where nobody expects one."""
    if is_secret_value(text) or any(secret in text for secret in _secrets(draft)):
        raise CommandError("a secret of the command would stand in the manifest: leave it out of the command")


def _without_secrets(line: str, draft: Draft) -> str:
    for secret in _secrets(draft):
        line = line.replace(secret, "(a secret)")
    return safe(without_secrets(line))


def _secrets(draft: Draft) -> list[str]:
    return [secret for secret in draft.secrets if len(secret) >= SHORT_SECRET]
