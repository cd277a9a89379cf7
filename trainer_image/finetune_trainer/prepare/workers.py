"""Work in numbered pieces on several processes, results in order: for work that keeps Python itself busy.

Processes are forked, so that their input needs no copying. Each sends its results through a pipe of its own, where it waits
until a result is wanted, which bounds the memory, and ends by itself when the parent process is gone.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from finetune_trainer.shared.failures import ExpectedError

T = TypeVar("T")
AHEAD = 2
"""The number of results of one process that may wait for those before them."""
CAN_FORK = sys.platform == "linux"
"""Whether processes may be forked: elsewhere than on Linux system libraries forbid it."""


class WorkerError(RuntimeError):
    """An unexpected failure of a worker; the message is its traceback."""


def in_order(work: Callable[[int], T], pieces: int, processes: int) -> Iterator[T]:
    """Yield `work(0)`, `work(1)`, ...: the same whatever the number of processes."""
    processes = min(processes, pieces) if CAN_FORK else 1
    if processes <= 1:
        yield from map(work, range(pieces))
        return
    gang = _Gang(work, pieces, processes)
    try:
        for piece in range(pieces):
            yield gang.result(piece)
    finally:
        gang.end()


class _Gang:
    """Worker i does pieces i, i + n, i + 2n, ... of n workers."""

    def __init__(self, work: Callable[[int], Any], pieces: int, processes: int) -> None:
        fork = multiprocessing.get_context("fork")
        self._pipes: list[Connection] = []
        self._workers = []
        self._waiting: dict[int, Any] = {}
        self._next: list[int] = list(range(processes))
        self._pieces = pieces
        sys.stderr.flush()
        gc.freeze()  # the collector of each worker would look through all objects of now, and copy them by doing so
        for index in range(processes):
            receiving, sending = fork.Pipe(duplex=False)
            own = range(index, pieces, processes)
            worker = fork.Process(target=_work, args=(work, own, sending, [*self._pipes, receiving]), daemon=True)
            worker.start()
            sending.close()
            self._pipes.append(receiving)
            self._workers.append(worker)

    def result(self, piece: int) -> Any:
        """Return the result of one piece; others that are ready are taken meanwhile, a few for each worker."""
        while piece not in self._waiting:
            for pipe in wait(self._open(piece)):
                assert isinstance(pipe, Connection)
                self._receive(self._pipes.index(pipe))
        result = self._waiting.pop(piece)
        if isinstance(result, _Failed):
            raise result.error()
        return result

    def _open(self, piece: int) -> list[Connection]:
        step = len(self._pipes)
        near = (piece + AHEAD * step, self._pieces)
        return [pipe for pipe, following in zip(self._pipes, self._next, strict=True) if following < min(near)]

    def _receive(self, index: int) -> None:
        try:
            self._waiting[self._next[index]] = self._pipes[index].recv()
        except EOFError:
            worker = self._workers[index]
            worker.join()
            if worker.exitcode == -signal.SIGKILL:
                raise MemoryError("a process that tokenises was killed") from None
            raise WorkerError(f"A process that tokenises ended with code {worker.exitcode}.") from None
        self._next[index] += len(self._pipes)

    def end(self) -> None:
        """End all workers, whether their work is done or not wanted any more."""
        for pipe in self._pipes:
            pipe.close()
        for worker in self._workers:
            worker.terminate()
            worker.join()
        gc.unfreeze()


class _Failed:
    """The failure of a piece of work, as it travels from process to process."""

    def __init__(self, error: Exception) -> None:
        self._expected = error.failure if isinstance(error, ExpectedError) else None
        self._memory = isinstance(error, MemoryError)
        self._text = "".join(traceback.format_exception(error))

    def error(self) -> Exception:
        if self._expected is not None:
            return ExpectedError.of(self._expected)
        return MemoryError(self._text) if self._memory else WorkerError(self._text)


def _work(work: Callable[[int], Any], pieces: range, sending: Connection, others: list[Connection]) -> None:
    for other in others:  # held open here, they would keep their workers waiting for a reader that is gone
        other.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes: the parent ends its workers
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are as many as the cores
    for piece in pieces:
        try:
            result: Any = work(piece)
        except Exception as error:  # noqa: BLE001 - it is raised again where its result is wanted
            result = _Failed(error)
        try:
            sending.send(result)
        except BrokenPipeError:
            return  # nobody wants it any more
        if isinstance(result, _Failed):
            return
