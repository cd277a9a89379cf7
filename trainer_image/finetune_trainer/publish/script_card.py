"""The card of a model that a user's own program has trained: what the job and the sealed model tell of it. Pure.

What the program was given (arguments, variables, requirements) may hold anything, secrets too: none of it is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from finetune_trainer.contract.prepared import Resolved
from finetune_trainer.contract.run_config import ScriptConfig
from finetune_trainer.publish.base_model_card import BaseFacts
from finetune_trainer.publish.card import (
    ADAPTER_LIBRARY,
    DEFAULT_ENDPOINT,
    base_model,
    data_source,
    is_local,
    licence_of,
    number,
    plain_title,
)
from finetune_trainer.publish.markdown import cell, code, front_matter
from finetune_trainer.shared.checkpoints.manifest import Manifest

TEMPLATE = Path(__file__).with_name("script_card.md.jinja")


@dataclass(frozen=True)
class TrainedProgram:
    """What is known of a model besides what its job says."""

    manifest: Manifest
    library: str | None
    resolved: Resolved


def render(
    config: ScriptConfig, trained: TrainedProgram, base: BaseFacts, *, repo_id: str, endpoint: str | None
) -> str:
    """Render the card's text, its metadata in front."""
    import jinja2

    hub, resolved = endpoint or DEFAULT_ENDPOINT, trained.resolved
    text = jinja2.Template(TEMPLATE.read_text(encoding="utf-8")).render(
        card_data=front_matter(_metadata(config, trained.library, base, repo_id).to_dict()),
        name=cell(repo_id.rsplit("/", 1)[-1]),
        base=base_model(config.model.name, resolved.model_revision, hub) if config.model is not None else None,
        data=data_source(config.dataset, resolved.dataset_revision, hub) if config.dataset is not None else None,
        metrics=[
            (cell(plain_title(name)), number(value)) for name, value in (trained.manifest.evaluation or {}).items()
        ],
        setup=_setup(config, trained.manifest),
    )
    return str(text).rstrip() + "\n"


def _metadata(config: ScriptConfig, library: str | None, base: BaseFacts, repo_id: str) -> Any:
    from huggingface_hub import ModelCardData

    named = config.model.name if config.model is not None and not is_local(config.model.name) else None
    return ModelCardData(
        **licence_of(base),
        library_name=library,
        base_model=named,
        base_model_relation="adapter" if named and library == ADAPTER_LIBRARY else None,
        datasets=[config.dataset.name] if config.dataset is not None and config.dataset.name else None,
        tags=["finetune-operator"],
        model_name=repo_id.rsplit("/", 1)[-1],
    )


def _setup(config: ScriptConfig, manifest: Manifest) -> list[tuple[str, str]]:
    """Return the rows of the table of how it was trained."""
    script = config.script
    program = code(script.module or PurePosixPath(script.path or "").name)
    rows = [("Program", f"{program}, started by {script.launcher.value}")]
    rows.append(("Ranks", f"{config.world_size} on {config.nodes} node{'s' * (config.nodes != 1)}"))
    if manifest.step:
        rows.append(("Steps", str(manifest.step)))
    rows.append(("Finished", manifest.time.strftime("%Y-%m-%d")))
    return rows
