"""`finetune run`: one job on this machine, from manifest to model. Connects the local backend and the display."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from types import FrameType
from typing import Any, TextIO

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.cli import result_summary, try_snippet
from finetune_operator.cli.command_errors import CommandError, ExitCode
from finetune_operator.cli.display import Display, Watcher, display_for
from finetune_operator.cli.document import job_of
from finetune_operator.cli.local import devices, processes, state, volumes
from finetune_operator.cli.local.cluster import LocalCluster
from finetune_operator.cli.local.loop import Interruption, Loop
from finetune_operator.cli.local.packages import require_trainer
from finetune_operator.cli.progress_log import Line
from finetune_operator.plan.desired.manifests import accelerators, processes_per_node
from finetune_operator.plan.template_policy import Capability
from finetune_operator.plan.types import Manifest, PlanSettings
from finetune_trainer.contract.records import Progress, ResultRecord

SETTINGS = PlanSettings(trainer_image="this-machine", progress_interval_seconds=0.5, template_allows=tuple(Capability))
"""Settings of a local run: a template means nothing on this machine, so it may ask for anything."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(manifest: str, local_volumes: volumes.Volumes, *, as_json: bool) -> ExitCode:
    """Run the job to its end, or until it is interrupted."""
    began = time.monotonic()
    stream = sys.stderr if as_json else sys.stdout
    job, body = job_of(manifest)
    require_trainer("training on this machine")
    placement = devices.place(job, SETTINGS, devices.present())
    local_volumes = volumes.with_program_beside(job, local_volumes, Path(manifest).parent)
    problems = list(volumes.missing(job, local_volumes))
    if problems:
        raise CommandError("\n".join(problems))
    with state.locked(local_volumes.work_dir, job.metadata.name), display_for(stream) as display:
        _introduce(display, placement)
        _end_leftovers(state.job_folder(local_volumes.work_dir, job.metadata.name), display)
        saved = state.load(local_volumes.work_dir, job.metadata.name, body["spec"])
        over, watcher = _train(placement, body, local_volumes, saved, display)
    if as_json:
        print(json.dumps(saved.status, indent=2))
    if not over:
        _print_interrupted(saved, stream)
        return ExitCode.INTERRUPTED
    if saved.status["phase"] == "Failed":
        _print_failed(saved, local_volumes)
        return ExitCode.FAILED
    _print_succeeded(job, saved.status, local_volumes, watcher.last_progress, time.monotonic() - began, stream)
    return ExitCode.SUCCEEDED


def _train(
    placement: devices.Placement,
    body: dict[str, Any],
    local_volumes: volumes.Volumes,
    saved: state.State,
    display: Display,
) -> tuple[bool, Watcher]:
    """Train the job on the local cluster; return whether it is over, and the watcher of its progress."""
    metadata = {**body["metadata"], "uid": saved.uid, "creationTimestamp": saved.created}
    spec = placement.job.spec.model_dump(by_alias=True, exclude_none=True, mode="json")
    local_body = {**body, "metadata": metadata, "spec": {**spec, "retry": max(spec["retry"], saved.retry)}}
    job = FineTuneJob.parse(local_body)
    watcher, interruption = Watcher(display), Interruption()
    with volumes.token_file(job, local_volumes, saved.folder) as token, _signals(interruption):
        cluster = LocalCluster(
            job=job,
            volumes=local_volumes,
            folder=saved.pods,
            devices=placement.devices,
            token_file=token,
            grace_seconds=SETTINGS.of_job(job).grace_period_seconds,
        )
        if saved.replaces:
            display.line(Line("the manifest is not that of the run that was interrupted: a new run begins", "Note"))
        if saved.continued and saved.interrupted is not None:
            display.line(Line(_continued_run(saved.status), "Continues"))
            cluster.restore(saved.objects, saved.interrupted)
            if not state.trained_only(saved.status):
                pause = datetime.now(UTC) - saved.interrupted
                saved.status = state.with_new_round(state.without_pause(saved.status, pause))
        try:
            over = Loop(local_body, SETTINGS, cluster, saved, watcher, interruption).run()
            if not over:
                display.line(Line("the pods end in order; Ctrl-C again ends them at once", "Stopping"))
            elif saved.status["phase"] == "Succeeded":
                cluster.drain(SETTINGS.of_job(job).grace_period_seconds)
        finally:
            cluster.stop(at_once=lambda: interruption.count > 1)
            saved.objects = cluster.saved()
            saved.save()
    return over, watcher


def _introduce(display: Display, placement: devices.Placement) -> None:
    job = placement.job
    nodes, each = job.spec.nodes, processes_per_node(job, SETTINGS)
    devices_text = f"{accelerators(job, SETTINGS)} accelerator(s) per node" if accelerators(job, SETTINGS) else "CPU"
    ranks = f"{nodes} node{'s' if nodes > 1 else ''} x {each} process{'es' if each > 1 else ''}, {devices_text}"
    display.line(Line(f"{job.metadata.name}: {_program(job)}, {ranks}", "Job"))
    if placement.warning is not None:
        display.line(Line(placement.warning, "Warning", warning=True))
    spec = job.spec
    ignored = {
        "image": spec.image is not None,
        "template": bool(spec.template),
        "storage.size": spec.storage.size is not None,
        "storage.storageClassName": spec.storage.storage_class_name is not None,
        "resources other than accelerators": bool(
            {*spec.resources.limits, *spec.resources.requests} & {"cpu", "memory"}
        ),
    }
    names = [name for name, is_set in ignored.items() if is_set]
    if names:
        display.line(Line(f"no meaning on this machine: {', '.join(names)}", "Ignored"))


def _program(job: FineTuneJob) -> str:
    """Return the task, or what the user's own program is called."""
    script = job.spec.script
    if script is None:
        return str(job.spec.task)
    return script.module or (script.config_map.key if script.config_map else PurePosixPath(str(script.path)).name)


def _end_leftovers(folder: Path, display: Display) -> None:
    """Give the pods of a killed run their grace period, then kill them: they are already stopping."""
    leftovers = processes.processes_of(folder)
    if not leftovers:
        return
    display.line(Line(f"waiting for {len(leftovers)} processes of the run before to end", "Continues"))
    processes.kill_all(processes.wait_for_end(leftovers, SETTINGS.grace_period_seconds))


def _continued_run(status: Manifest) -> str:
    """Say which run goes on, and from where."""
    if state.trained_only(status):
        return "the run whose publishing failed; its model is published again, without training"
    if status.get("phase") == "Publishing":
        return "the run that was interrupted while it published its model, without training"
    checkpoint, progress = status.get("checkpoint"), status.get("progress") or {}
    if checkpoint is not None:
        return f"the run that was interrupted, from its last checkpoint (step {checkpoint['step']})"
    if progress.get("step"):
        return f"the run that was interrupted at step {progress['step']}, from its last checkpoint if there is one"
    return "the run that was interrupted before its first step"


@contextmanager
def _signals(interruption: Interruption) -> Iterator[None]:
    """Stop in order at the first Ctrl-C, SIGTERM or closing of the terminal, and at once at the second."""

    def handle(number: int, frame: FrameType | None) -> None:
        interruption.count += 1

    handled = [
        number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN
    ]  # nohup and background jobs ignore some
    before = {number: signal.signal(number, handle) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            # After an interruption only the message of how to go on is left, and another signal must not cut it short.
            signal.signal(number, signal.SIG_IGN if interruption.count else handler)


def _print_interrupted(saved: state.State, stream: TextIO) -> None:
    if saved.status.get("phase") == "Publishing":
        print("Interrupted. The model is trained; the same command goes on with publishing it.", file=stream)
        return
    texts = [processes.termination_message(folder) for folder in saved.pods.glob("*-train-*")]
    records = [ResultRecord.model_validate_json(text) for text in texts if text.startswith("{")]
    steps = [record.checkpoint.step for record in records if record.checkpoint is not None]
    known = saved.status.get("checkpoint")
    steps += [known["step"]] if known else []
    start = f"the checkpoint of step {max(steps)}" if steps else "the start: there is no checkpoint yet"
    print(f"Interrupted. The same command goes on from {start}.", file=stream)


def _print_failed(saved: state.State, local_volumes: volumes.Volumes) -> None:
    failure = saved.status.get("failure") or {}
    source = ", ".join(
        f"{name} {failure[key]}" for name, key in (("node", "node"), ("rank", "rank")) if failure.get(key) is not None
    )
    print(f"Failed: {failure.get('reason', 'Unknown')}{f' ({source})' if source else ''}", file=sys.stderr)
    for key in ("message", "resolution"):
        if failure.get(key):
            print(failure[key], file=sys.stderr)
    if state.trained_only(saved.status):
        print(
            "The same command publishes again; what it says of `publish` and the token may be changed.", file=sys.stderr
        )
        print(f"Model: {_short(_model_at(saved.status, local_volumes))}", file=sys.stderr)
    print(f"Logs: {_short(saved.pods)}/*/{processes.LOG_FILE}", file=sys.stderr)


def _print_succeeded(
    job: FineTuneJob,
    status: Manifest,
    local_volumes: volumes.Volumes,
    progress: Progress | None,
    seconds: float,
    stream: TextIO,
) -> None:
    print(f"Succeeded in {seconds:.0f} s", file=stream)
    prepared = progress.prepared if progress is not None else None
    for line in result_summary.metric_lines(job, status, prepared):
        print(line, file=stream)
    if "model" in status:
        folder = _short(_model_at(status, local_volumes))
        print(f"model      {folder}", file=stream)
        base = volumes.behind(job, job.spec.model.name, local_volumes) if job.spec.model is not None else None
        labels = len(prepared.labels) if prepared else None
        code = try_snippet.code(job, folder, labels, _short(base) if base is not None else None)
        if code and try_snippet.stands_in_quotes(code):
            print(f'try it     {_short(Path(sys.executable))} -c "{code}"', file=stream)
        hub = status["model"].get("hub")
        if hub is not None:
            print(f"published  {hub['url']} (commit {hub['commit'][:12]})", file=stream)


def _model_at(status: Manifest, local_volumes: volumes.Volumes) -> Path:
    """Return the folder of the model, by the short name that points to it where there is one."""
    claim, path = local_volumes.claim(status["model"]["claimName"]), status["model"]["path"]
    folder = claim / path.lstrip("/")
    short = claim / Path(path.lstrip("/")).parts[0] / "model"
    return short if short.resolve() == folder.resolve() else folder


def _short(path: Path) -> str:
    """Return the path relative to the current folder where it lies in it."""
    current = Path.cwd()
    return str(path.relative_to(current)) if path.is_relative_to(current) else str(path)
