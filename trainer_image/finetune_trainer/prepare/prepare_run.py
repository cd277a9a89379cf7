"""Preparing as one function: from a run config to `Prepared`, on the volume.

Four steps: the model, the data's identity, rows that are checked, tokens on disk. Results of earlier tries are used again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_trainer.contract.prepared import Prepared, PrepareSummary, Resolved, SplitReport
from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import ModelSource, RunConfig
from finetune_trainer.contract.text import log_line
from finetune_trainer.data import model
from finetune_trainer.data.model import ModelDescription
from finetune_trainer.prepare import (
    arguments,
    build,
    eviction,
    image,
    lease,
    model_cache,
    preflight,
    splits,
    store,
    warnings,
)
from finetune_trainer.prepare.fingerprint import config_digest, model_digest
from finetune_trainer.prepare.hub import HubReader
from finetune_trainer.prepare.run_parts import RunParts
from finetune_trainer.shared import data_digests, layerdrop
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.paths import to_local, to_pod
from finetune_trainer.shared.volume import (
    DISK_FULL,
    Layout,
    has_worked,
    make_folder,
    probe,
    read_checked,
    write_checked,
)

GONE = frozenset(
    {
        Reason.HUB_UNAVAILABLE,
        Reason.ACCESS_DENIED,
        Reason.FILE_NOT_FOUND,
        Reason.DATASET_NOT_FOUND,
        Reason.MODEL_NOT_FOUND,
    }
)
"""Reasons why model and data can't be looked at again, for which data that was prepared of them is used nevertheless."""


def prepare(
    config: RunConfig, before_model: Callable[[], None] = lambda: None, first_attempt: int | None = None
) -> Prepared:
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
    notes = _Notes()
    earlier = _earlier(layout)
    if earlier is not None and (earlier.config_digest != digest or not _is_there(earlier, notes)):
        earlier = None
    if earlier is not None and first_attempt is not None and earlier.first_attempt == first_attempt:
        lacks = image.check_model(config.model.name, to_local(earlier.model), accelerators=config.accelerators)
        return _with_messages(earlier, (*messages, *notes.messages, *lacks))
    hub = HubReader(config.hub)  # a token that can't be read fails in any case
    try:
        prepared = _resolved(RunParts.of(config), digest, hub, layout, before_model, notes)
    except ExpectedError as error:
        if earlier is None or error.reason not in GONE:
            raise
        prepared = earlier
        notes.say(f"Whether model and data have changed is not known: {error} What was prepared of them is used.")
    prepared = prepared.model_copy(update={"first_attempt": first_attempt})
    make_folder(layout.run.folder)
    write_checked(layout.run.prepared, prepared)
    return _with_messages(prepared, (*messages, *notes.messages))


@dataclass
class _Notes:
    """Notes of this try."""

    messages: list[str] = field(default_factory=list)
    """Messages about what happened: a wait, room that was made, data that was damaged."""
    sound: set[Path] = field(default_factory=set)
    """Prepared data of which every byte was read, and was as it was sealed."""

    def say(self, text: str) -> None:
        self.messages.append(text)
        _say(text)


def _resolved(
    run: RunParts, digest: str, hub: HubReader, layout: Layout, before_model: Callable[[], None], notes: _Notes
) -> Prepared:
    """Resolve model and data, and find or make their prepared data."""
    folder, commit = _model_folder(run.model, hub, layout.hub_cache)
    of_memory = _check_memory(run, folder) if run.accelerators else ()
    notes.messages.extend(image.check_model(run.model.name, folder, accelerators=run.accelerators))
    if (problem := run.layerdrop_problem(layerdrop.shares_of(folder))) is not None:
        raise ExpectedError(Reason.ARGUMENTS_INVALID, problem)
    source = splits.find(run.data.dataset, hub, layout.hub_cache)
    cache_file = model_cache.file_for(layout, digest, folder, _rows_identity(run, source))
    facts = model_cache.read(cache_file) if cache_file is not None else None
    if facts is None or not _is_sound(layout.prepared(facts.key), notes):
        before_model()
        facts = _made_from(run, layout, hub, folder, source, notes)
    if cache_file is not None:
        model_cache.write(cache_file, facts)
    resolved = Resolved(model_revision=commit, dataset_revision=source.commit)
    return _with_messages(_prepared(run.data.training, digest, layout, facts, folder, resolved), of_memory)


def _check_memory(run: RunParts, folder: Path) -> tuple[str, ...]:
    """Raise ExpectedError where no device can hold the model; return messages on the memory that the model takes."""
    if run.device_memory_bytes is None:
        message = run.memory_note(folder)
        return () if message is None else (message,)
    if (problem := run.memory_problem(folder, run.device_memory_bytes)) is not None:
        raise ExpectedError(Reason.MODEL_TOO_LARGE, problem)
    return ()


def _made_from(
    run: RunParts, layout: Layout, hub: HubReader, folder: Path, source: splits.DataSource, notes: _Notes
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
    meta = _made(build.Job(run.data, run_task, hub, source, loaded, limits), layout, layout.prepared(key), notes)
    of_labels = run_task.task.model_messages(loaded, tuple(meta["labelNames"]))
    return model_cache.Known(key=key, messages=(*of_limits, *of_labels))


def _prepared(
    training: arguments.TrainingSettings,
    digest: str,
    layout: Layout,
    facts: model_cache.Known,
    model: Path,
    resolved: Resolved,
) -> Prepared:
    """Describe the prepared data to ranks and people."""
    folder = layout.prepared(facts.key)
    meta = store.read_meta(folder)
    assert meta is not None, "it was found, and is not evicted so soon"
    reports = {role: SplitReport.model_validate(report) for role, report in meta["splits"].items()}
    rows = {role: report.sequences or report.rows for role, report in reports.items()}
    return Prepared(
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


def _with_messages(prepared: Prepared, messages: tuple[str, ...]) -> Prepared:
    """Add messages that concern this try alone, and are not kept on the volume."""
    return prepared.model_copy(update={"messages": (*messages, *prepared.messages)})


def _earlier(layout: Layout) -> Prepared | None:
    """Read what an earlier try of this run has left; what can't be read is prepared again."""
    try:
        return read_checked(layout.run.prepared, Prepared)
    except (OSError, ValueError):
        return None


def _is_there(prepared: Prepared, notes: _Notes) -> bool:
    if not _is_sound(to_local(prepared.data), notes) or not to_local(prepared.model).is_dir():
        return False
    return data_digests.content_of(data_digests.read_meta(to_local(prepared.data))) == prepared.data_digest


def _is_sound(folder: Path, notes: _Notes) -> bool:
    """Tell whether prepared data is there, every byte as it was sealed. Data that is not is set aside."""
    if not os.path.lexists(folder):
        return False
    if eviction.touch(folder) and (folder in notes.sound or data_digests.problem(folder) is None):
        notes.sound.add(folder)
        return True
    problem = store.set_aside(folder)
    if problem is not None:
        notes.say(f"The prepared data {folder.name[:12]} can't be used ({problem}): it is set aside and made again.")
    return problem is None and eviction.touch(folder)


def _model_folder(source: ModelSource, hub: HubReader, hub_cache: Path) -> tuple[Path, str | None]:
    if source.name.startswith("/"):
        return model.local_model(source.name), None
    return hub.model(source, hub_cache)


def _made(job: build.Job, layout: Layout, folder: Path, notes: _Notes) -> dict[str, Any]:
    """Make the prepared data where it is missing, or not as it was sealed; return the notes that are kept beside it."""

    def make_room(wanted: int) -> bool:
        messages = eviction.make_room(layout, wanted)
        for message in messages:
            notes.say(message)
        return bool(messages)

    def done() -> bool:
        return _is_sound(folder, notes)

    while True:
        if done() and (meta := store.read_meta(folder)) is not None:
            return meta
        with lease.held(folder, layout.job, done=done, waiting=_say, waited=notes.say) as mine:
            if mine is None:
                continue
            try:
                build.make(job, folder, mine.partial, make_room)
                notes.sound.add(folder)  # it was digested as it was written
            except OSError as error:
                # A lease is lost by being asleep for so long that somebody took this process for dead, and removed
                # what it had written.
                if not mine.is_lost() and not (error.errno in DISK_FULL and make_room(sys.maxsize)):
                    raise


def _say(text: str) -> None:
    log_line("prepare", text)
