"""Preparing as one function: from a run config to `Prepared`, on the volume.

Four steps: the model, the data's identity, rows that are checked, tokens on disk. What is there already is used again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetune_trainer import memory, tasks
from finetune_trainer.config import Prepared, PrepareSummary, Reason, Resolved, RunConfig, SplitReport
from finetune_trainer.paths import to_local, to_pod
from finetune_trainer.prepare import (
    adapters,
    arguments,
    eviction,
    image,
    known,
    lease,
    making,
    model,
    preflight,
    splits,
    store,
    warnings,
)
from finetune_trainer.prepare.errors import PrepareError
from finetune_trainer.prepare.hub import Hub
from finetune_trainer.prepare.key import config_digest, data_key
from finetune_trainer.prepare.model import Model
from finetune_trainer.text import log_line
from finetune_trainer.volume import DISK_FULL, Layout, make_folder, probe, read_document, write_document


def prepare(config: RunConfig, before_model: Callable[[], None] = lambda: None) -> Prepared:
    """Prepare a run, or find it prepared. Raises PrepareError and VolumeError."""
    layout = Layout.of(config)
    probe(layout)
    told = (*preflight.check(config), *image.check(config))
    earlier = read_document(layout.run.prepared, Prepared)
    if earlier and earlier.config_digest == config_digest(config) and _is_there(earlier):
        return _also_told(earlier, (*told, *image.check(config, to_local(earlier.model))))
    hub = Hub(config)
    folder, commit = _model_folder(config, hub, layout)
    size = _fits(config, folder)
    told = (*told, *image.check(config, folder))
    found = splits.find(config, hub)
    place = known.place(layout, config, folder, found.identity)
    facts = known.read(place) if place is not None else None
    waited: tuple[str, ...] = ()
    if facts is None or not eviction.touch(layout.prepared(facts.key)):
        before_model()
        facts, waited = _made_from(config, layout, hub, folder, found)
    if place is not None:
        known.write(place, facts)
    resolved = Resolved(model_revision=commit, dataset_revision=found.commit)
    prepared = _also_told(_prepared(config, layout, facts, folder, resolved), size)
    make_folder(layout.run.folder)
    write_document(layout.run.prepared, prepared)
    return _also_told(prepared, (*told, *waited))


def _fits(config: RunConfig, model: Path) -> tuple[str, ...]:
    """What is to be said of the memory that the model takes; PrepareError where no device of the job can hold it."""
    if not config.accelerators:
        return ()
    if config.device_memory_bytes is None:
        said = memory.note(config, model)
        return () if said is None else (said,)
    if (problem := memory.problem(config, model, config.device_memory_bytes)) is not None:
        raise PrepareError(Reason.MODEL_TOO_LARGE, problem)
    return ()


def _made_from(
    config: RunConfig, layout: Layout, hub: Hub, folder: Path, found: splits.Found
) -> tuple[known.Known, tuple[str, ...]]:
    """Look at the model, and see that there is prepared data for it; what is to be known of both, and what it took."""
    loaded = model.load(folder, f"The model {config.model.name}")
    task = tasks.find(config.task)
    task.check_model(loaded, config)
    adapters.check(config, loaded)
    limits, said = task.limits(config, loaded)
    key = data_key(config, data=found.identity, model=_in_tokens(loaded), limits=(limits.tokens, limits.target_tokens))
    meta, waited = _made(making.Job(config, task, hub, found, loaded, limits), layout, layout.prepared(key))
    told = task.model_messages(loaded, tuple(meta["labelNames"]))
    return known.Known(key=key, messages=(*said, *told)), waited


def _prepared(config: RunConfig, layout: Layout, facts: known.Known, model: Path, resolved: Resolved) -> Prepared:
    """What ranks and people are told of data that is there."""
    folder = layout.prepared(facts.key)
    meta = store.read_meta(folder)
    assert meta is not None, "it was found, and is not evicted so soon"
    reports = {role: SplitReport.model_validate(report) for role, report in meta["splits"].items()}
    rows = {role: report.sequences or report.rows for role, report in reports.items()}
    return Prepared(
        config_digest=config_digest(config),
        data=to_pod(folder),
        model=to_pod(model),
        label_names=tuple(meta["labelNames"]),
        label_counts=tuple(meta["labelCounts"]),
        summary=PrepareSummary.model_validate(meta["summary"]),
        splits=reports,
        resolved=resolved,
        messages=(
            *facts.messages,
            *meta["messages"],
            *arguments.check(config, rows),
            *warnings.of_training(config, rows["train"]),
        ),
    )


def _in_tokens(loaded: Model) -> object:
    """What tokens depend on of a model, and whether they are known to it."""
    config = loaded.config
    return [
        loaded.tokenizer_digest,
        config.model_type,
        getattr(config, "is_encoder_decoder", None),
        getattr(model.text_config(config), "vocab_size", None),
        getattr(config, "decoder_start_token_id", None),
    ]


def _also_told(prepared: Prepared, messages: tuple[str, ...]) -> Prepared:
    """With what concerns this try alone: it is not kept on the volume."""
    return prepared.model_copy(update={"messages": (*messages, *prepared.messages)})


def _is_there(prepared: Prepared) -> bool:
    return eviction.touch(to_local(prepared.data)) and to_local(prepared.model).is_dir()


def _model_folder(config: RunConfig, hub: Hub, layout: Layout) -> tuple[Path, str | None]:
    if config.model.name.startswith("/"):
        return model.local_model(config.model.name), None
    return hub.model(config.model, layout.hub_cache)


def _made(job: making.Job, layout: Layout, folder: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What is noted of the prepared data, which is made where it is not there; and what that took."""
    told: list[str] = []

    def tell(text: str) -> None:
        told.append(text)
        _say(text)

    def make_room(wanted: int) -> bool:
        gone = eviction.make_room(layout, wanted)
        for text in gone:
            tell(text)
        return bool(gone)

    def done() -> bool:
        return store.read_meta(folder) is not None

    while (meta := store.read_meta(folder)) is None or not eviction.touch(folder):
        with lease.held(folder, job.config.job, done=done, waiting=_say, waited=tell) as mine:
            if mine is None:
                continue
            try:
                making.make(job, folder, mine.partial, make_room)
            except OSError as error:
                # A lease is lost by being asleep for so long that somebody took this process for dead, and removed
                # what it had written.
                if not mine.is_lost() and not (error.errno in DISK_FULL and make_room(sys.maxsize)):
                    raise
    return meta, tuple(told)


def _say(text: str) -> None:
    log_line("prepare", text)
