"""Child processes of a process 1: none outlives `launch`, and no orphan stays a zombie."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress

import psutil

from finetune_trainer.shared.parent_death import die_with_parent

_PR_SET_CHILD_SUBREAPER = 36
_LOOK_AGAIN_SECONDS = 0.05
_libc = ctypes.CDLL(None, use_errno=True)


class Children:
    """The children of this process: its own, which it starts, and orphans, which it reaps. All of them end with it."""

    def __init__(self) -> None:
        self._own: dict[int, asyncio.subprocess.Process] = {}
        self._starting = 0
        self._loop = asyncio.get_running_loop()
        # Process 1 gets orphans as children anyway; elsewhere this has the same effect.
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)

    async def start(
        self, command: Sequence[str], env: Mapping[str, str], *, with_stdin: bool = False
    ) -> asyncio.subprocess.Process:
        """Start a child with stdout and stderr in one pipe, and a pipe to its stdin where it will get instructions."""
        self._starting += 1
        try:
            child = await asyncio.create_subprocess_exec(
                *command,
                env=dict(env),
                stdin=asyncio.subprocess.PIPE if with_stdin else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )
            self._own[child.pid] = child
        finally:
            self._starting -= 1
        return child

    def _reap(self) -> None:
        """Collect the exit status of orphans; asyncio collects that of our own children."""
        if self._starting:
            self._loop.call_later(_LOOK_AGAIN_SECONDS, self._reap)
            return
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            own = self._own.get(ended.si_pid)
            if own is not None and own.returncode is None:
                self._loop.call_later(_LOOK_AGAIN_SECONDS, self._reap)
                return
            with suppress(ChildProcessError):
                os.waitpid(ended.si_pid, os.WNOHANG)

    def kill_all(self) -> None:
        """Send SIGKILL to every process below this one."""
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def close(self) -> None:
        self._loop.remove_signal_handler(signal.SIGCHLD)
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 0)
