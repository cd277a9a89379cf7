"""The output of ranks: that of rank 0 goes to standard output as it is, and the last lines of all are kept for failures.

The pod's log belongs to the program that runs in it, progress bars and colours included. Text that leaves it (for a record, a
status, the terminal of `finetune run`) can't steer a terminal.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

from finetune_trainer.contract.text import printable

TAIL_LINES = 40
_LINE_MAX = 2000
_CHUNK_BYTES = 1 << 16
_DRAIN_SECONDS = 1.0

OnLine = Callable[[str], None]


class Tail:
    """The last lines of a stream; of a line that overwrites itself, such as a progress bar, the last state."""

    def __init__(self, lines: int = TAIL_LINES) -> None:
        self._lines: deque[str] = deque(maxlen=lines)
        self._rest = ""

    def feed(self, chunk: bytes) -> list[str]:
        """Take a part of the stream; return the lines that it has ended."""
        *lines, self._rest = (self._rest + chunk.decode("utf-8", "replace")).split("\n")
        ended = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines]
        self._lines.extend(line[:_LINE_MAX] for line in ended)
        self._rest = self._rest[-_LINE_MAX:]
        return ended

    def text(self) -> str:
        rest = self._rest.rsplit("\r", 1)[-1]
        text = "\n".join([*self._lines, *([rest] if rest else [])])
        return printable(text, len(text), lines=True)


class RankOutputs:
    """A FIFO for each local rank, because torchrun passes no descriptors on. It is read until its last writer is gone."""

    def __init__(self, folder: Path, ranks: range, on_line: OnLine = lambda line: None) -> None:
        """`on_line` is called with each line of rank 0."""
        folder.mkdir(mode=0o700)
        self._on_line = on_line
        self.folder = folder
        self._ranks = ranks
        self._tails = {rank: Tail() for rank in ranks}
        self._writers: list[int] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        for local, rank in enumerate(self._ranks):
            fifo = self.folder / str(local)
            os.mkfifo(fifo, 0o600)
            reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
            # The FIFO is held open, so that the stream does not end before the rank has opened it.
            self._writers.append(os.open(fifo, os.O_WRONLY))
            stream = asyncio.StreamReader()
            pipe = os.fdopen(reading, "rb", buffering=0)
            protocol = asyncio.StreamReaderProtocol(stream)
            await asyncio.get_running_loop().connect_read_pipe(partial(_same, protocol), pipe)
            first = rank == 0
            on_line = self._on_line if first else None
            self._tasks.append(asyncio.create_task(follow(stream, self._tails[rank], echo=first, on_line=on_line)))

    async def close(self) -> None:
        """Read what is left; a process that still holds a stream is not waited for long."""
        for writer in self._writers:
            os.close(writer)
        if self._tasks:
            _, unfinished = await asyncio.wait(self._tasks, timeout=_DRAIN_SECONDS)
            for task in unfinished:
                task.cancel()

    def echo_others(self) -> None:
        """Print the last lines of the ranks whose output was not printed before."""
        for rank, tail in self._tails.items():
            if rank != 0 and tail.text():
                print_block(f"last lines of rank {rank}", tail.text())

    def tails(self) -> dict[int, str]:
        return {rank: tail.text() for rank, tail in self._tails.items()}


def _same(protocol: asyncio.StreamReaderProtocol) -> asyncio.StreamReaderProtocol:
    return protocol


def print_block(title: str, text: str) -> None:
    """Print somebody else's lines on our standard output, with their origin."""
    sys.stdout.write(f"--- {title} ---\n{text}\n---\n")
    sys.stdout.flush()


async def follow(stream: asyncio.StreamReader, tail: Tail, *, echo: bool, on_line: OnLine | None = None) -> None:
    """Read a stream to its end."""
    while chunk := await stream.read(_CHUNK_BYTES):
        for line in tail.feed(chunk):
            if on_line is not None:
                on_line(line)
        if echo:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
