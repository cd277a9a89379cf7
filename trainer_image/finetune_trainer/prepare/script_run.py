"""Preparing a user's own program as one function: packages installed, model and data found and pinned, on the volume.

Nothing is looked at but whether it is there: what model and data are for, the program alone knows.
"""

from __future__ import annotations

from pathlib import Path

from finetune_trainer.contract.prepared import Prepared, Resolved
from finetune_trainer.contract.run_config import ModelSource, ScriptConfig
from finetune_trainer.data.model import on_volume
from finetune_trainer.prepare import hub_home, preflight, script_data, script_packages
from finetune_trainer.prepare.fingerprint import config_digest
from finetune_trainer.prepare.hub import HubReader
from finetune_trainer.prepare.hub_home import Pin
from finetune_trainer.prepare.notes import Notes, left_by_earlier_try, resolved_or_earlier, with_messages
from finetune_trainer.shared.paths import to_local, to_pod
from finetune_trainer.shared.volume import Layout, has_worked, make_folder, probe, write_checked


def prepare(config: ScriptConfig, first_attempt: int | None = None) -> Prepared:
    """Prepare a run, or find it prepared. Raises ExpectedError.

    Model and data are looked at anew in each round, as those of a task are.
    """
    layout, digest = Layout.of(config), config_digest(config)
    messages = (*probe(layout, worked=has_worked(layout)), *preflight.check(config.publish, config.hub))
    notes = Notes()
    earlier = left_by_earlier_try(layout, Prepared)
    if earlier is not None and (earlier.config_digest != digest or not _is_there(earlier, config, layout, notes)):
        earlier = None
    if earlier is not None and first_attempt is not None and earlier.first_attempt == first_attempt:
        return with_messages(earlier, (*messages, *notes.messages))
    hub = HubReader(config.hub)  # a token that can't be read fails in any case
    prepared = resolved_or_earlier(lambda: _resolved(config, digest, hub, layout, notes), earlier, notes)
    prepared = prepared.model_copy(update={"first_attempt": first_attempt})
    make_folder(layout.run.folder)
    write_checked(layout.run.prepared, prepared)
    return with_messages(prepared, (*messages, *notes.messages))


def _resolved(config: ScriptConfig, digest: str, hub: HubReader, layout: Layout, notes: Notes) -> Prepared:
    lines, pins = config.script.requirements, list[Pin]()
    installed = script_packages.installed(lines, layout, notes) if lines else None
    model, model_commit = None, None
    if config.model is not None:
        model, model_commit = _model(config.model, hub, layout)
        if model_commit is not None:
            pins.append(Pin("model", config.model.name, config.model.revision, model_commit))
    data = script_data.find(config.dataset, hub, layout, notes) if config.dataset is not None else None
    if data is not None and data.pin is not None:
        pins.append(data.pin)
    home = hub_home.make(layout.run.hub_home, layout.hub_cache, pins) if pins else None
    return Prepared(
        config_digest=digest,
        data=to_pod(data.folder) if data is not None else None,
        model=to_pod(model) if model is not None else None,
        packages=to_pod(installed) if installed is not None else None,
        hub_home=to_pod(home) if home is not None else None,
        resolved=Resolved(model_revision=model_commit, dataset_revision=data.commit if data is not None else None),
    )


def _model(source: ModelSource, hub: HubReader, layout: Layout) -> tuple[Path, str | None]:
    if source.name.startswith("/"):
        return on_volume(source.name), None
    return hub.model(source, layout.hub_cache, of_task=False)


def _is_there(prepared: Prepared, config: ScriptConfig, layout: Layout, notes: Notes) -> bool:
    """Tell whether what an earlier try has left is all there."""
    paths = (prepared.model, prepared.hub_home)
    if not all(to_local(path).exists() for path in paths if path is not None):
        return False
    if prepared.data is not None and not script_data.is_there(to_local(prepared.data), layout, notes):
        return False
    lines = config.script.requirements
    if prepared.packages is None:
        return not lines
    return script_packages.are_there(to_local(prepared.packages), lines, layout, notes)
