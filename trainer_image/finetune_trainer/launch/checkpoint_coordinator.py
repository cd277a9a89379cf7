"""The sealing of checkpoints and of the model: gathers what ranks and nodes report, and runs `sealing` in threads.

`NodeCheckpointWriter` works on every node, `CheckpointCoordinator` on node 0. A checkpoint that can't be sealed because the
volume is full or away is given up with a message and a metric, and training goes on: the one before still exists, and the
ranks are asked to make another soon. Where the volume can never take a checkpoint, the attempt ends at the first one.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import structlog

from finetune_trainer.contract.frozen_document import PodPath
from finetune_trainer.contract.launch_protocol import (
    FileDigest,
    FileName,
    NodeCheckpoint,
    RankCheckpoint,
    RankModel,
    Saved,
)
from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.launch import output_folder, sealing
from finetune_trainer.launch.attempt_metrics import AttemptMetrics
from finetune_trainer.launch.background import Background
from finetune_trainer.launch.checkpoints import move_aside, rotate
from finetune_trainer.launch.launch_settings import Settings
from finetune_trainer.launch.output_folder import Look, Written
from finetune_trainer.launch.progress_state import ProgressState
from finetune_trainer.launch.sealing import SupersededError
from finetune_trainer.shared.checkpoints import finite, manifest
from finetune_trainer.shared.checkpoints.attempt_file import AttemptRecord
from finetune_trainer.shared.checkpoints.manifest import NAME, Manifest
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.paths import to_local, to_pod
from finetune_trainer.shared.volume import (
    DISK_FULL,
    NOT_A_FILE,
    NOTHING,
    VolumeError,
    explain,
    passes,
    replace_link,
    sync_folder,
)

log = structlog.get_logger()

MODEL_SECONDS = 600.0
"""Time in which the sealing of the final model is tried again where the volume is full or away."""
MODEL_AGAIN_SECONDS = 5.0
UNSUITABLE = "volume_unsuitable"
FULL = "volume_full"


def reason_of(error: Exception) -> str:
    """Return the label for an error in `finetune_checkpoint_failures_total`."""
    if isinstance(error, SupersededError):
        return "superseded"
    if isinstance(error, FileNotFoundError) or not isinstance(error, OSError):
        return "protocol"
    if error.errno in DISK_FULL:
        return FULL
    return "volume" if passes(error) else UNSUITABLE


class NodeCheckpointWriter:
    """The part of one node in each checkpoint."""

    def __init__(
        self,
        settings: Settings,
        metrics: AttemptMetrics,
        report: Callable[[NodeCheckpoint], Awaitable[None]],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._work = Background(on_error)
        self._settings = settings
        self._attempt = settings.layout.run.attempt(settings.attempt)
        self._metrics = metrics
        self._report = report
        self._reports: dict[int, dict[int, RankCheckpoint]] = {}

    def rank_reported(self, report: RankCheckpoint) -> None:
        """Take one rank's list of files; the last list of a step starts the work."""
        of_step = self._reports.setdefault(report.step, {})
        of_step[report.rank] = report
        if len(of_step) < self._settings.config.processes_per_node:
            return
        self._work.start(self._place(report.step, self._reports.pop(report.step)))

    async def _place(self, step: int, reports: dict[int, RankCheckpoint]) -> None:
        names = list(dict.fromkeys(name for report in reports.values() for name in report.files))
        final, staged = self._attempt.checkpoint(step), self._attempt.staging / f"checkpoint-{step}"
        files: dict[FileName, FileDigest] = {}
        problem = next((report.problem for report in reports.values() if report.problem), None)
        if problem is None:
            with self._metrics.checkpoint_seconds.labels(stage="place").time():
                try:
                    files = await asyncio.to_thread(sealing.place, staged, final, names)
                except OSError as error:
                    problem = f"{reason_of(error)}: {error}"
        await self._report(
            NodeCheckpoint(
                node=self._settings.node,
                step=step,
                files=files,
                best=any(report.best for report in reports.values()),
                problem=problem,
                size_bytes=next((report.size_bytes for report in reports.values() if report.size_bytes), None),
            )
        )

    async def idle(self) -> None:
        """Wait until everything that was reported so far is handed to node 0."""
        await self._work.idle()


class CheckpointCoordinator:
    """The part of node 0: seal when all nodes have placed their files, rotate, and answer waiting requests."""

    def __init__(
        self,
        settings: Settings,
        progress_state: ProgressState,
        metrics: AttemptMetrics,
        on_error: Callable[[Exception], None],
    ) -> None:
        self._work = Background(on_error)
        self._on_error = on_error
        self._settings = settings
        self._layout = settings.layout
        self._attempt = self._layout.run.attempt(settings.attempt)
        self._progress_state = progress_state
        self._metrics = metrics
        self._parts: dict[int, dict[int, NodeCheckpoint]] = {}
        self._complete: set[int] = set()
        """Steps with all their parts: a part that arrives again was sent twice, because its answer was lost."""
        self._done: dict[int, asyncio.Future[Path | None]] = {}
        self._lock = asyncio.Lock()
        self._given_up: int | None = None
        self._written: dict[tuple[Path, str], int] = {}
        """Row of checkpoints whose numbers are not steps -> number of the newest that was sealed."""
        self._written_step = -1
        """Step that the newest of them was sealed as."""
        self.attempt_record: AttemptRecord | None = None
        """Record of the attempt, set when it has begun."""

    @property
    def saved(self) -> Saved:
        """Newest sealed and newest abandoned checkpoint."""
        sealed = self._progress_state.checkpoint
        return Saved(sealed=sealed.step if sealed is not None else None, given_up=self._given_up)

    def done(self, step: int) -> asyncio.Future[Path | None]:
        """Return the future of a sealed folder: None if the checkpoint was given up, or an earlier attempt left none."""
        if step not in self._done:
            self._done[step] = asyncio.get_running_loop().create_future()
            resumed = self.attempt_record.resume if self.attempt_record is not None else None
            if self.attempt_record is not None and resumed is not None and step <= resumed.step:
                self._done[step].set_result(_left_before(self.attempt_record, step))
        return self._done[step]

    async def node_reported(self, report: NodeCheckpoint) -> None:
        """Take one node's part; the last part of a step starts the sealing."""
        if report.step in self._complete:
            return
        parts = self._parts.setdefault(report.step, {})
        parts[report.node] = report
        if len(parts) < self._settings.config.nodes:
            return
        self._complete.add(report.step)
        self._work.start(self._seal(report.step, self._parts.pop(report.step)))

    async def _seal(self, step: int, parts: dict[int, NodeCheckpoint]) -> None:
        final = self._attempt.checkpoint(step)
        async with self._lock:
            started = time.monotonic()
            if final.is_dir():
                self._resolve(step, final)
                return
            try:
                sealed = await asyncio.to_thread(self._manifest, step, parts)
                await asyncio.to_thread(sealing.seal, self._layout.run, final, sealed)
            except (OSError, ValueError, SupersededError) as error:
                await self._give_up(step, error)
                return
            finally:
                self._metrics.checkpoint_seconds.labels(stage="seal").observe(time.monotonic() - started)
            self._sealed(sealed, final)
            await self._rotate()
        await asyncio.to_thread(sealing.discard, self._attempt.staging / final.name)

    def _manifest(self, step: int, parts: dict[int, NodeCheckpoint]) -> Manifest:
        problems = [f"node {node}: {part.problem}" for node, part in sorted(parts.items()) if part.problem]
        if problems:
            raise _PartMissing(problems[0], next((part.size_bytes for part in parts.values() if part.size_bytes), None))
        files = self._without_faults_of_base(sealing.merged(parts[node].files for node in sorted(parts)))
        return Manifest(
            step=step,
            attempt=self._settings.attempt,
            world_size=self._settings.config.world_size,
            time=datetime.now(UTC),
            best=any(part.best for part in parts.values()),
            finite=not any(file.not_finite for file in files.values()),
            files=files,
        )

    def _without_faults_of_base(self, files: dict[FileName, FileDigest]) -> dict[FileName, FileDigest]:
        """Return the files, each without those tensors that were not finite in the base model either."""
        prepared = self._progress_state.prepared
        if prepared is None or prepared.model is None or not any(file.not_finite for file in files.values()):
            return files
        base = to_local(prepared.model)
        try:
            return {
                name: file.model_copy(update={"not_finite": finite.not_in_base(base, file.not_finite)})
                for name, file in files.items()
            }
        except OSError as error:
            log.warning("the base model can't be read", path=prepared.model, error=str(error))
            return files

    def _sealed(self, sealed: Manifest, folder: Path) -> None:
        self._resolve(sealed.step, folder)
        if sealed.finite is False:
            self._metrics.checkpoint_failures.labels(reason="not_finite").inc()
            message = f"checkpoint {sealed.step} holds numbers that are not finite ({', '.join(sealed.not_finite)})"
            self._progress_state.say((f"{message}: nothing goes on from it",))
            log.error("checkpoint is not finite", step=sealed.step, path=to_pod(folder), tensors=sealed.not_finite)
            return
        ref = sealed.ref(folder)
        newest = self._progress_state.checkpoint
        if newest is None or newest.step <= ref.step:  # a program may finish an older one later
            self._progress_state.checkpoint = ref
        self._metrics.last_checkpoint_time.set(ref.time.timestamp())
        log.info("checkpoint sealed", step=ref.step, path=ref.path)

    async def _give_up(self, step: int, error: Exception) -> None:
        reason = error.reason if isinstance(error, _PartMissing) else reason_of(error)
        self._metrics.checkpoint_failures.labels(reason=reason).inc()
        message = f"checkpoint {step} was not saved ({reason}): {error}"
        self._progress_state.say((message,))
        log.error("checkpoint given up", step=step, reason=reason, error=str(error))
        final = self._attempt.checkpoint(step)
        await asyncio.to_thread(sealing.discard, sealing.partial(final), self._attempt.staging / f"checkpoint-{step}")
        self._given_up = step
        self._resolve(step, None)
        hopeless = error if isinstance(error, SupersededError) else await self._hopeless_failure(reason, error)
        if hopeless is not None:
            self._on_error(hopeless)

    async def _hopeless_failure(self, reason: str, error: Exception) -> VolumeError | None:
        """Return a failure where no later checkpoint could be sealed either: it is better to end now than after the last step."""
        output = self._layout.output
        if reason == UNSUITABLE:
            return _unsuitable("Checkpoints", output, error)
        wanted = error.size_bytes if reason == FULL and isinstance(error, _PartMissing) else None
        capacity = await asyncio.to_thread(_size, output)
        if wanted is None or capacity is None or wanted <= capacity:
            return None
        message = (
            f"The volume is full, and too small: a checkpoint takes about {_amount(wanted)}, and the volume at {output} holds "
            f"{_amount(capacity)} in all."
        )
        return VolumeError(Reason.VOLUME_FULL, message)

    def _resolve(self, step: int, folder: Path | None) -> None:
        future = self.done(step)
        if not future.done():
            future.set_result(folder)

    async def _rotate(self) -> None:
        if self.attempt_record is None:
            raise RuntimeError("a checkpoint was sealed before the attempt had begun")
        with self._metrics.checkpoint_seconds.labels(stage="rotate").time():
            try:
                deleted = await asyncio.to_thread(
                    rotate, self._layout, self.attempt_record, self._settings.save_total_limit
                )
            except OSError as error:
                self._progress_state.say((f"old checkpoints could not be deleted: {error}",))
                log.warning("rotation failed", error=str(error))
                return
        for folder in deleted:
            log.info("old checkpoint deleted", path=to_pod(folder))

    async def seal_written(self, found: Written, seen: Look) -> bool:
        """Seal a copy of a checkpoint that a user's own program has written. False where the program changed it meanwhile."""
        if found.number < self._written.get(found.kind, 0):  # an older epoch that was touched is no newer checkpoint
            return True
        step = found.number if found.counts_steps else self._step_of_epoch(found.number)
        final = self._attempt.checkpoint(step)
        staged = self._attempt.staging / final.name
        names = list(seen.files)

        def work() -> Manifest | None:
            if NAME in names:
                raise ValueError(
                    f"{found.folder.name}/{NAME} has the name of a file of the system: let the program call it otherwise"
                )
            output_folder.copy(found.folder, names, staged)
            if output_folder.look(found.folder) != seen:
                return None
            files = sealing.place(staged, final, names)
            # The numbers of somebody else's program mean what it wants: a mask may well be infinite.
            files = {name: file.model_copy(update={"not_finite": ()}) for name, file in files.items()}
            sealed = Manifest(
                step=step,
                attempt=self._settings.attempt,
                world_size=self._settings.config.world_size,
                time=datetime.now(UTC),
                finite=True,
                files=files,
                written_as=self._name_of(found),
            )
            (sealing.seal_again if final.is_dir() else sealing.seal)(self._layout.run, final, sealed)
            return sealed

        async with self._lock:
            if final.is_dir() and not await asyncio.to_thread(self._was_torn, final, found):
                return True
            try:
                sealed = await asyncio.to_thread(work)
            except (OSError, ValueError, SupersededError) as error:
                if not isinstance(error, OSError) or error.errno not in NOTHING | NOT_A_FILE:
                    await self._give_up(step, error)
                    return True
                sealed = None  # the program has deleted or replaced a file
            await asyncio.to_thread(sealing.discard, staged)
            if sealed is not None:
                if not found.counts_steps:
                    self._written[found.kind], self._written_step = found.number, step
                self._sealed(sealed, final)
                await self._rotate()
        return sealed is not None

    def _was_torn(self, final: Path, found: Written) -> bool:
        """Return whether the newest checkpoint was sealed before its writer was done: it is the same one, and has changed since.

        Nobody knows when a writer of its own is done, and a volume that hangs looks as if it were.
        """
        newest, content = self._progress_state.checkpoint, manifest.read(final)
        same = content is not None and content.written_as == self._name_of(found)
        return same and newest is not None and newest.path == to_pod(final)

    def _name_of(self, found: Written) -> str:
        return found.folder.relative_to(self._layout.run.output).as_posix()

    def _step_of_epoch(self, number: int) -> int:
        """Return the step that a checkpoint is sealed as whose name counts epochs: the newest that was reported.

        It is higher than that of the epoch before, also where the program reports no steps or counts them anew in each epoch.
        """
        reported, resumed = self._progress_state.step, self._progress_state.resumed_from
        before = max(self._written_step, resumed.step if resumed is not None else -1)
        return max(number if reported is None else reported, before + 1)

    async def seal_model(self, report: RankModel) -> PodPath:
        """Seal `staging/model`, and point the user's link to it. Raise ExpectedError where its numbers are not finite."""
        final = self._attempt.model

        def work() -> None:
            if final.is_dir():
                sync_folder(final.parent)
                return
            files = self._without_faults_of_base(sealing.place(self._attempt.staging / "model", final, report.files))
            self._require_finite(files, final)
            sealed = Manifest(
                step=report.step,
                attempt=self._settings.attempt,
                world_size=self._settings.config.world_size,
                time=datetime.now(UTC),
                evaluation=report.evaluation,
                finite=True,
                files=files,
            )
            sealing.seal(self._layout.run, final, sealed)

        async with self._lock:
            await self._until_done(work)
        path = self._progress_state.model_path = to_pod(final)
        log.info("model sealed", path=path)
        await self.link_model(path)
        return path

    async def _until_done(self, work: Callable[[], None]) -> None:
        """Seal the model, and try again where the volume may take it later: it holds all training since the last checkpoint."""
        clock = asyncio.get_running_loop().time
        until = clock() + MODEL_SECONDS
        while True:
            try:
                return await asyncio.to_thread(work)
            except OSError as error:
                log.warning("the model can't be sealed", error=str(error))
                if reason_of(error) == UNSUITABLE:
                    raise _unsuitable("The model", self._layout.output, error) from error
                if not passes(error):
                    raise
                if clock() >= until:
                    failure = explain(error, self._layout.output, worked=True)
                    # Where the volume took nothing from the first step to the last, another training would cost as much
                    # again.
                    cause = failure.cause if self._progress_state.checkpoint is not None else Cause.ERROR
                    raise VolumeError.of(failure.model_copy(update={"cause": cause})) from error
                self._progress_state.say(
                    (f"The model is trained, and can't be written to the volume now ({error}): trying again.",)
                )
            await asyncio.sleep(MODEL_AGAIN_SECONDS)

    def _require_finite(self, files: dict[FileName, FileDigest], final: Path) -> None:
        """Move a model with numbers that are not finite aside, where the user can look at it, and raise ExpectedError."""
        tensors = [f"{name}: {tensor}" for name, file in files.items() for tensor in file.not_finite]
        if not tensors:
            return
        why = f"numbers of the model are not finite at the end of training ({', '.join(tensors)})"
        kept = to_pod(move_aside(self._layout.run, sealing.partial(final), why))
        newest = self._progress_state.checkpoint or self._progress_state.resumed_from
        before = f"; the newest checkpoint whose numbers are finite is {newest.path}" if newest is not None else ""
        raise ExpectedError(Reason.NON_FINITE, f"{why[0].upper()}{why[1:]}. It is at {kept}{before}.")

    async def link_model(self, model: PodPath) -> None:
        """Point the user's link to a sealed model, of this attempt or of one before that may have ended in between.

        Only people need the link: not every volume can make one.
        """
        try:
            await asyncio.to_thread(replace_link, self._layout.model_link, to_local(model))
        except OSError as error:
            self._progress_state.say(
                (f"The model is at {model}; {to_pod(self._layout.model_link)} does not lead there: {error}.",)
            )

    async def tidy(self) -> None:
        """Remove the staging folder: its files that count are sealed."""
        await asyncio.to_thread(sealing.discard, self._attempt.staging)

    async def idle(self) -> None:
        """Wait until everything that nodes have reported is sealed or given up."""
        await self._work.idle()


def _left_before(record: AttemptRecord, step: int) -> Path | None:
    """Return the checkpoint of a step from before the attempt began: of its run, or beside the one that it resumed from."""
    known = [to_local(ref.path) for ref in record.known if ref.step == step]
    beside = [to_local(record.resume.path).parent / f"checkpoint-{step}"] if record.resume is not None else []
    return next((folder for folder in (*known, *beside) if folder.is_dir()), None)


def _unsuitable(files: str, output: Path, error: Exception) -> VolumeError:
    message = f"{files} can't be sealed on the volume at {output}: {error}."
    return VolumeError(Reason.VOLUME_UNSUITABLE, message)


def _amount(size: int) -> str:
    """Write a number of bytes for people: `1.5 GiB`."""
    units = ("KiB", "MiB", "GiB", "TiB")
    power = next((number for number in range(len(units)) if size < 1000 * 1024 ** (number + 1)), len(units) - 1)
    return f"{size / 1024 ** (power + 1):.1f} {units[power]}"


def _size(output: Path) -> int | None:
    """Return the capacity of a volume in bytes; None where it does not say."""
    try:
        space = os.statvfs(output)
    except OSError:
        return None
    return space.f_blocks * space.f_frsize or None


class _PartMissing(ValueError):
    """A node could not place its files; the reason is the first word of its problem."""

    def __init__(self, problem: str, size_bytes: int | None) -> None:
        super().__init__(problem)
        self.size_bytes = size_bytes

    @property
    def reason(self) -> str:
        return str(self).split(": ")[1]
