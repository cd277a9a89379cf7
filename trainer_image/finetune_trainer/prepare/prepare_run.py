"""Preparing as one function: from a run config to `PreparedTask`, on the volume.

Four steps: the model, the data's identity, rows that are checked, tokens on disk. Results of earlier tries are used again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetune_trainer.contract.prepared import PreparedTask, PrepareSummary, Resolved, SplitReport
from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import ModelSource, TaskConfig
from finetune_trainer.data import model
from finetune_trainer.data.model import ModelDescription
from finetune_trainer.prepare import (
    arguments,
    build,
    image,
    model_cache,
    preflight,
    shared_folder,
    splits,
    store,
    warnings,
)
from finetune_trainer.prepare.fingerprint import config_digest, model_digest
from finetune_trainer.prepare.hub import HubReader
from finetune_trainer.prepare.notes import Notes, left_by_earlier_try, resolved_or_earlier, with_messages
from finetune_trainer.prepare.run_parts import RunParts
from finetune_trainer.shared import data_digests, layerdrop
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.paths import to_local, to_pod
from finetune_trainer.shared.volume import (
    Layout,
    has_worked,
    make_folder,
    probe,
    write_checked,
)


def prepare(
    config: TaskConfig, before_model: Callable[[], None] = lambda: None, first_attempt: int | None = None
) -> PreparedTask:
    """Prepare a run, or find it prepared. Raises ExpectedError.

    Model and data are looked at anew, in case they have changed, but for the later attempts of a round, which begins with
    attempt `first_attempt`; None where a Job prepares.
    """
    layout, digest = Layout.of(config), config_digest(config)
    messages = (
        *probe(layout, worked=has_worked(layout)),
        *preflight.check(config.publish, config.hub),
        *image.check_arguments(
            config.training_arguments,
            accelerators=config.accelerators,
            peft=config.peft is not None,
            quantization=config.quantization is not None,
        ),
    )
    notes = Notes()
    earlier = left_by_earlier_try(layout, PreparedTask)
    if earlier is not None and (earlier.config_digest != digest or not _is_there(earlier, notes)):
        earlier = None
    if earlier is not None and first_attempt is not None and earlier.first_attempt == first_attempt:
        lacks = image.check_model(config.model.name, to_local(earlier.model), accelerators=config.accelerators)
        return with_messages(earlier, (*messages, *notes.messages, *lacks))
    hub = HubReader(config.hub)  # a token that can't be read fails in any case
    prepared = resolved_or_earlier(
        lambda: _resolved(RunParts.of(config), digest, hub, layout, before_model, notes), earlier, notes
    )
    prepared = prepared.model_copy(update={"first_attempt": first_attempt})
    make_folder(layout.run.folder)
    write_checked(layout.run.prepared, prepared)
    return with_messages(prepared, (*messages, *notes.messages))


def _resolved(
    run: RunParts, digest: str, hub: HubReader, layout: Layout, before_model: Callable[[], None], notes: Notes
) -> PreparedTask:
    """Resolve model and data, and find or make their prepared data."""
    folder, commit = _model_folder(run.model, hub, layout.hub_cache)
    of_memory = _check_memory(run, folder) if run.accelerators else ()
    notes.messages.extend(image.check_model(run.model.name, folder, accelerators=run.accelerators))
    if (problem := run.layerdrop_problem(layerdrop.shares_of(folder))) is not None:
        raise ExpectedError(Reason.ARGUMENTS_INVALID, problem)
    source = splits.find(run.data.dataset, hub, layout.hub_cache)
    cache_file = model_cache.file_for(layout, digest, folder, _rows_identity(run, source))
    facts = model_cache.read(cache_file) if cache_file is not None else None
    if facts is None or not shared_folder.is_sound(layout.prepared(facts.key), notes):
        before_model()
        facts = _made_from(run, layout, hub, folder, source, notes)
    if cache_file is not None:
        model_cache.write(cache_file, facts)
    resolved = Resolved(model_revision=commit, dataset_revision=source.commit)
    return with_messages(_prepared(run.data.training, digest, layout, facts, folder, resolved), of_memory)


def _check_memory(run: RunParts, folder: Path) -> tuple[str, ...]:
    """Raise ExpectedError where no device can hold the model; return messages on the memory that the model takes."""
    if run.device_memory_bytes is None:
        message = run.memory_note(folder)
        return () if message is None else (message,)
    if (problem := run.memory_problem(folder, run.device_memory_bytes)) is not None:
        raise ExpectedError(Reason.MODEL_TOO_LARGE, problem)
    return ()


def _made_from(
    run: RunParts, layout: Layout, hub: HubReader, folder: Path, source: splits.DataSource, notes: Notes
) -> model_cache.Known:
    """Load the model's configuration and find or make the prepared data; return what a later try needs to find the data."""
    loaded = model.load(folder, f"The model {run.model.name}")
    run_task = run.task()
    run_task.check_model(loaded)
    run.check_adapter(loaded, run_task.task.facts.model_class)
    limits, of_limits = run_task.limits(loaded)
    key = run.data_key(
        data=_rows_identity(run, source),
        model=_in_tokens(loaded),
        limits=(limits.tokens, limits.target_tokens),
    )
    job, place = build.Job(run.data, run_task, hub, source, loaded, limits), layout.prepared(key)
    meta = shared_folder.made(
        place, layout, notes, lambda partial, make_room: build.make(job, place, partial, make_room)
    )
    of_labels = run_task.task.model_messages(loaded, tuple(meta["labelNames"]))
    return model_cache.Known(key=key, messages=(*of_limits, *of_labels))


def _prepared(
    training: arguments.TrainingSettings,
    digest: str,
    layout: Layout,
    facts: model_cache.Known,
    model: Path,
    resolved: Resolved,
) -> PreparedTask:
    """Describe the prepared data to ranks and people."""
    folder = layout.prepared(facts.key)
    meta = store.read_meta(folder)
    assert meta is not None, "it was found, and is not evicted so soon"
    reports = {role: SplitReport.model_validate(report) for role, report in meta["splits"].items()}
    rows = {role: report.sequences or report.rows for role, report in reports.items()}
    return PreparedTask(
        config_digest=digest,
        data=to_pod(folder),
        data_digest=data_digests.content_of(meta),
        model=to_pod(model),
        model_digest=model_digest(model),
        label_names=tuple(meta["labelNames"]),
        label_counts=tuple(meta["labelCounts"]),
        summary=PrepareSummary.model_validate(meta["summary"]),
        splits=reports,
        resolved=resolved,
        messages=(
            *facts.messages,
            *meta["messages"],
            *arguments.check(training, rows),
            *warnings.of_training(
                training.training_arguments, rows["train"], ranks=training.ranks, adapter=training.adapter
            ),
        ),
    )


def _rows_identity(run: RunParts, source: splits.DataSource) -> dict[str, Any]:
    """Return what decides which rows are taken: the source of the data, and the settings of `spec.dataset`."""
    return {**source.identity, "settings": run.row_settings}


def _in_tokens(loaded: ModelDescription) -> object:
    """Return the facts of a model that its tokens depend on, and whether the model knows them."""
    config = loaded.config
    return [
        loaded.tokenizer_digest,
        config.model_type,
        getattr(config, "is_encoder_decoder", None),
        getattr(model.text_config(config), "vocab_size", None),
        getattr(config, "decoder_start_token_id", None),
    ]


def _is_there(prepared: PreparedTask, notes: Notes) -> bool:
    if not shared_folder.is_sound(to_local(prepared.data), notes) or not to_local(prepared.model).is_dir():
        return False
    return data_digests.content_of(data_digests.read_meta(to_local(prepared.data))) == prepared.data_digest


def _model_folder(source: ModelSource, hub: HubReader, hub_cache: Path) -> tuple[Path, str | None]:
    if source.name.startswith("/"):
        return model.local_model(source.name), None
    return hub.model(source, hub_cache)
