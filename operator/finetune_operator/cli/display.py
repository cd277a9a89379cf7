"""The display of a running job: a moving bar on a terminal, plain lines elsewhere. Decides nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from finetune_operator.cli.progress_log import Line, ProgressLog, steps
from finetune_operator.cli.terminal import one_line, raw
from finetune_operator.plan.types import EventNote, Manifest
from finetune_trainer.contract.records import Progress

if TYPE_CHECKING:
    from rich.progress import TaskID

PLAIN_INTERVAL_SECONDS = 5.0
HEAD_WIDTH = 11


class Display(Protocol):
    """An output for lines and progress, open between `with` and its end."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
    def line(self, line: Line) -> None: ...
    def progress(self, status: Manifest) -> None: ...


class Watcher:
    """Callback of the loop that shows what is new in each status."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._log = ProgressLog()
        self.last_progress: Progress | None = None

    def __call__(self, status: Manifest, progress: Progress | None, events: Sequence[EventNote]) -> None:
        self.last_progress = progress or self.last_progress
        for line in self._log.lines(status, progress, events):
            self._display.line(line)
        self._display.progress(status)


class PlainDisplay:
    """A display of lines, one after another, for logs, pipes and CI."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown_at = 0.0
        self._shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, value: object, traceback: object) -> None:
        self._stream.flush()

    def line(self, line: Line) -> None:
        text = f"{one_line(line.head):<{HEAD_WIDTH}} {one_line(line.text)}"
        print(text.strip(), file=self._stream, flush=True)

    def progress(self, status: Manifest) -> None:
        text = steps(status)
        if text and text != self._shown and time.monotonic() - self._shown_at >= PLAIN_INTERVAL_SECONDS:
            self._shown, self._shown_at = text, time.monotonic()
            self.line(Line(text))


class LiveDisplay:
    """A display of one bar at the bottom, with lines above it."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
        from rich.text import Text

        self._text = Text.assemble
        self._console = Console(file=raw(stream), highlight=False, markup=False)
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.description}", markup=False),
            console=self._console,
            transient=True,
            refresh_per_second=4,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: object, value: object, traceback: object) -> None:
        self._bar.stop()

    def line(self, line: Line) -> None:
        style = "yellow" if line.warning else "bold"
        head = (f"{one_line(line.head):<{HEAD_WIDTH}} ", style)
        self._console.print(self._text(head, one_line(line.text)), soft_wrap=True)

    def progress(self, status: Manifest) -> None:
        progress = status.get("progress") or {}
        if not progress.get("totalSteps"):
            return
        text = steps(status).partition(", ")[2]
        if self._task is None:
            self._task = self._bar.add_task(text, total=progress["totalSteps"])
        self._bar.update(
            self._task, completed=progress.get("step") or 0, total=progress["totalSteps"], description=text
        )


def display_for(stream: TextIO) -> Display:
    return LiveDisplay(stream) if stream.isatty() else PlainDisplay(stream)
