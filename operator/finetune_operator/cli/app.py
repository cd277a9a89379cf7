"""The commands of `finetune` and their options. Each imports what it needs when it is called, so that --help is quick."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune_operator.cli.command_errors import CommandError, ExitCode
from finetune_operator.cli.terminal import safe_streams

if TYPE_CHECKING:
    from finetune_operator.cli.local.volumes import Volumes

app = typer.Typer(
    name="finetune",
    help="Fine-tune Hugging Face models from a FineTuneJob manifest, with or without a cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes longer to import than everything else here
)


class Output(StrEnum):
    """The form of what `finetune run` prints on standard output."""

    TEXT = "text"
    JSON = "json"


WorkDir = Annotated[Path, typer.Option(help="Where claims, checkpoints and logs live.")]
Volume = Annotated[list[str], typer.Option(metavar="NAME=FOLDER", help="Folder that stands for a claim.")]
Secret = Annotated[list[str], typer.Option(metavar="NAME=FOLDER", help="Folder with a file per key of a Secret.")]
ConfigMap = Annotated[list[str], typer.Option(metavar="NAME=FOLDER", help="Folder with a file per key of a ConfigMap.")]
WORK_DIR = Path(".finetune")

ManifestFile = Annotated[str, typer.Argument(metavar="FILE", help="Manifest of a FineTuneJob; - reads standard input.")]


@app.command()
def run(
    manifest: ManifestFile,
    work_dir: WorkDir = WORK_DIR,
    volume: Volume = [],  # noqa: B006
    secret: Secret = [],  # noqa: B006
    config_map: ConfigMap = [],  # noqa: B006
    output: Annotated[
        Output, typer.Option("--output", "-o", help="json: the final status alone on standard output.")
    ] = Output.TEXT,
) -> None:
    """Train on this machine, nodes as local processes. An interrupted run goes on when it is started again."""

    def command() -> ExitCode:
        from finetune_operator.cli import run as module

        return module.run(manifest, _volumes(work_dir, volume, secret, config_map), as_json=output is Output.JSON)

    _exit_with(command)


@app.command()
def render(
    manifest: ManifestFile,
    image: Annotated[str | None, typer.Option(help="Training image where the manifest names none.")] = None,
) -> None:
    """Print the objects that the operator would make of a job's first attempt, as YAML. Applies nothing."""

    def command() -> ExitCode:
        from finetune_operator.cli import render as module

        return module.render(manifest, image)

    _exit_with(command)


@app.command()
def validate(
    manifests: Annotated[list[str], typer.Argument(metavar="FILE...", help="Manifests; - reads standard input.")],
    deep: Annotated[bool, typer.Option("--deep", help="Read model and data too, as the prepare step would.")] = False,
    work_dir: Annotated[Path, typer.Option(help="With --deep: where claims, Secrets and ConfigMaps lie.")] = WORK_DIR,
    volume: Volume = [],  # noqa: B006
    secret: Secret = [],  # noqa: B006
    config_map: ConfigMap = [],  # noqa: B006
) -> None:
    """Check manifests as the API server would, without one. Exit code 1 where any of them is refused."""

    def command() -> ExitCode:
        from finetune_operator.cli.validate import validate_files

        if not deep and (volume or secret or config_map):
            raise CommandError("folders are read with --deep alone: say that too, or leave them out")
        return validate_files(manifests, _volumes(work_dir, volume, secret, config_map) if deep else None)

    _exit_with(command)


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def init(
    command: Annotated[
        list[str],
        typer.Argument(metavar="-- COMMAND...", help="What trains on one machine; without it questions are asked."),
    ] = [],  # noqa: B006
    name: Annotated[str | None, typer.Option(help="Name of the job; default: the program's.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="File to write; default: standard output.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    with_configmap: Annotated[
        bool, typer.Option("--with-configmap", help="Write the ConfigMap with the program into the same file.")
    ] = False,
) -> None:
    """Write the manifest of a job that does what a command line does on one machine.

    finetune init -o job.yaml -- torchrun --nproc_per_node 8 run_summarization.py --model_name_or_path t5-small ...
    """

    def run_command() -> ExitCode:
        from finetune_operator.cli.init import command as module

        return module.init(command, name=name, output=output, force=force, with_config_map=with_configmap)

    _exit_with(run_command)


@app.command()
def explain(
    manifests: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="A job with its status, and its children; - reads standard input."),
    ],
    name: Annotated[
        str | None, typer.Option(help="Which FineTuneJob, where there are several: NAME or NAMESPACE/NAME.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="The operator's clock: 2026-03-01T12:00:00Z. Default: now.")
    ] = None,
) -> None:
    """Say what the operator would decide on a job now, and why. Changes nothing, talks to no cluster.

    kubectl get finetunejob,job,pod,pvc,configmap,service,event -o yaml | finetune explain - --name NAME
    """

    def command() -> ExitCode:
        from finetune_operator.cli.explain import explain as module

        return module.explain(manifests, name, at)

    _exit_with(command)


def _exit_with(command: Callable[[], ExitCode]) -> None:
    """Run a command and exit with its code; print an error that the user can correct as one line on standard error."""
    with safe_streams():
        try:
            code = command()
        except CommandError as error:
            print(f"finetune: {error}", file=sys.stderr)
            code = error.code
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
    raise typer.Exit(code)


def _volumes(work_dir: Path, volume: list[str], secret: list[str], config_map: list[str]) -> Volumes:
    from finetune_operator.cli.local.volumes import Volumes

    return Volumes(
        work_dir.resolve(), _pairs("--volume", volume), _pairs("--secret", secret), _pairs("--config-map", config_map)
    )


def _pairs(option: str, values: list[str]) -> dict[str, Path]:
    """Return `NAME=FOLDER` options as a mapping."""
    pairs: dict[str, Path] = {}
    for value in values:
        name, separator, folder = value.partition("=")
        if not (name and separator and folder):
            raise CommandError(f"{option} {value}: write it as NAME=FOLDER")
        if not Path(folder).is_dir():
            raise CommandError(f"{option} {value}: there is no folder {folder}")
        pairs[name] = Path(folder).resolve()
    return pairs
