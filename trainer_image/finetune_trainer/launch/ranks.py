"""The ranks of a node: their launcher as a child, its environment, its end."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import structlog

from finetune_trainer.contract.launch_protocol import Begin, RankEnv, RankProgress, RankResult
from finetune_trainer.contract.records import Outcome
from finetune_trainer.contract.run_config import Env
from finetune_trainer.contract.script import Launcher
from finetune_trainer.launch import launcher
from finetune_trainer.launch.cause import Evidence, rank_exits
from finetune_trainer.launch.children import Children
from finetune_trainer.launch.launch_settings import Settings
from finetune_trainer.launch.log_progress import LogProgress
from finetune_trainer.launch.output import RankOutputs, Tail, follow, print_block
from finetune_trainer.shared import host
from finetune_trainer.shared.paths import to_local

log = structlog.get_logger()

SHUTDOWN_MARGIN_SECONDS = 10
"""torchrun gives ranks this much less than the pod's grace period, so that the record is written in time."""

TORCHRUN_LINES = 200
"""Lines of torchrun that are kept. It prints many when a rank fails, after what ranks printed before they had their own streams."""

KEPT_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
"""Settings of glibc (mallopt(3)): memory that a step frees is needed by the next one. If it were returned to the kernel in between it
would cost page faults: a step of a small model on a CPU took a tenth longer."""


def environment(
    settings: Settings,
    base: Mapping[str, str],
    interface: str | None,
    token_file: Path,
    outputs: Path,
    begin: Begin,
) -> dict[str, str]:
    """Return the environment of a rank. What the user set (threads, interfaces) stays as it is."""
    config = settings.config
    defaults = {
        "OMP_NUM_THREADS": str(host.threads_per_rank(config.processes_per_node)),
        "HF_HOME": str(settings.layout.hub_cache),
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **KEPT_MEMORY,
    }
    defaults |= launcher.device_defaults(settings, begin)
    if interface is not None:
        defaults |= {"GLOO_SOCKET_IFNAME": interface}
        if interface != "lo":
            defaults |= {"NCCL_SOCKET_IFNAME": f"={interface}"}
    own = {
        Env.CONFIG: str(settings.config_file),
        Env.ATTEMPT: str(settings.attempt),
        RankEnv.LAUNCH_URL: settings.url,
        RankEnv.TOKEN_FILE: str(token_file),
        RankEnv.STAGING: str(settings.layout.run.attempt(settings.attempt).staging),
        RankEnv.OUTPUT: str(outputs),
        "KUBEFLOW_TRAINER_SERVER_URL": f"{settings.url}/kubeflow",
        "KUBEFLOW_TRAINER_SERVER_TOKEN": str(token_file),
        "HF_HUB_OFFLINE": "1",
        **_past_proxies(settings, base),
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(max(1, config.grace_period_seconds - SHUTDOWN_MARGIN_SECONDS)),
    }
    resumed = {RankEnv.RESUME: str(to_local(begin.resume.path))} if begin.resume else {}
    inherited = {name: value for name, value in base.items() if name != RankEnv.RESUME}
    launchers = launcher.environment(settings, begin)
    return {str(name): value for name, value in (defaults | inherited | own | launchers | resumed).items()}


def _past_proxies(settings: Settings, base: Mapping[str, str]) -> dict[str, str]:
    """Return variables that exclude the rank's own pod from proxies: its reports and its token must not leave the pod."""
    users = base.get("no_proxy") or base.get("NO_PROXY")  # Python reads the first, where both are set
    listed = ",".join(filter(None, (users, settings.bind or "127.0.0.1")))
    return {"no_proxy": listed, "NO_PROXY": listed}


def _log_progress(settings: Settings) -> LogProgress:
    """Return what reads the log with the user's pattern; without it where the operator's Python takes it, and this one does not."""
    script = settings.config.script
    try:
        return LogProgress(script.progress_pattern if script is not None else None)
    except ValueError as error:
        log.error("progressPattern is no regular expression here", error=str(error))
        return LogProgress(None)


class Ranks:
    """Starts the launcher, collects the results of its ranks, and ends it."""

    def __init__(
        self,
        settings: Settings,
        children: Children,
        temporary: Path,
        on_progress: Callable[[RankProgress], None] = lambda report: None,
    ) -> None:
        """`on_progress` is called with what a line of rank 0 tells of progress."""
        self._settings = settings
        self._children = children
        self._on_progress = on_progress
        self._log_progress = _log_progress(settings)
        self._outputs = RankOutputs(temporary / "output", settings.local_ranks, self._line)
        self._temporary = temporary
        self._logs = temporary / "torchrun"
        self._launcher: asyncio.subprocess.Process | None = None
        self._launcher_tail = Tail(TORCHRUN_LINES)
        self._following: asyncio.Task[None] | None = None
        self._exit: asyncio.Task[int] | None = None
        self._memory_kills = host.out_of_memory_kills()
        self._evidence: Evidence | None = None
        self.results: dict[int, RankResult] = {}
        self.token = secrets.token_urlsafe(32)
        self._token_file = temporary / "token"
        descriptor = os.open(self._token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(self.token)

    def _line(self, line: str) -> None:
        report = self._log_progress.of_line(line)
        if report is not None:
            self._on_progress(report)

    async def warm_up(self) -> None:
        """Start the imports of torchrun, where it is the launcher; `start` tells it later what to run."""
        if self._settings.config.launcher is Launcher.TORCHRUN:
            await self._start_launcher(
                [sys.executable, "-m", "finetune_trainer.launch.torchrun"], os.environ, waits=True
            )

    async def _start_launcher(self, command: list[str], env: Mapping[str, str], *, waits: bool) -> None:
        self._launcher = await self._children.start(command, env, with_stdin=waits)
        if self._launcher.stdout is None:
            raise RuntimeError("the launcher was started without a pipe")
        self._following = asyncio.create_task(follow(self._launcher.stdout, self._launcher_tail, echo=False))
        self._exit = asyncio.create_task(self._launcher.wait())

    async def start(self, begin: Begin, interface: str | None, on_exit: Callable[[], None]) -> None:
        """Let the launcher start the ranks; `on_exit` is called when it has ended."""
        await self._outputs.open()
        env = environment(self._settings, os.environ, interface, self._token_file, self._outputs.folder, begin)
        self._memory_kills = host.out_of_memory_kills()
        if self._settings.config.launcher is Launcher.TORCHRUN:
            instructions = {"arguments": launcher.torchrun_arguments(self._settings, begin, self._logs), "env": env}
            await self._instruct(instructions)
        else:
            command = await asyncio.to_thread(launcher.command, self._settings, begin, self._temporary)
            await self._start_launcher(command, env, waits=False)
        if self._exit is None:
            raise RuntimeError("ranks were started before they were warmed up")
        self._exit.add_done_callback(lambda _: on_exit())
        log.info("ranks started", interface=interface, threads=env["OMP_NUM_THREADS"])

    async def _instruct(self, instructions: Mapping[str, object]) -> None:
        """Tell the waiting torchrun what to run."""
        if self._launcher is None or self._launcher.stdin is None:
            raise RuntimeError("ranks were started before they were warmed up")
        with suppress(BrokenPipeError, ConnectionResetError):  # it has ended, and its exit reports that
            self._launcher.stdin.write(json.dumps(instructions).encode() + b"\n")
            await self._launcher.stdin.drain()

    def all_reported(self, outcome: Outcome) -> bool:
        """Return whether every local rank has reported this outcome."""
        return all(
            rank in self.results and self.results[rank].outcome is outcome for rank in self._settings.local_ranks
        )

    async def wait(self, seconds: float) -> bool:
        """Wait for the launcher; return whether it has ended in time."""
        if self._exit is None:
            return True
        done, _ = await asyncio.wait([self._exit], timeout=max(0.0, seconds))
        return bool(done)

    async def end(self, *, patience_seconds: float, graceful_seconds: float) -> None:
        """Give the launcher time to end by itself, then ask it to end, then kill it. Nothing of it is left afterwards."""
        if self._launcher is None or self._exit is None or self._following is None:
            return
        if not await self.wait(patience_seconds):
            self._evidence = self._present_evidence()
            with suppress(ProcessLookupError):
                self._launcher.send_signal(signal.SIGTERM)
            if not await self.wait(graceful_seconds):
                log.info("the launcher is ended by force")
        self._children.kill_all()
        await self._exit
        await asyncio.wait([self._following], timeout=1)
        await self._outputs.close()

    def echo(self) -> None:
        """Print output that was held back, for the log of a failure."""
        self._outputs.echo_others()
        if self._launcher_tail.text():
            print_block(self._settings.config.launcher.value, self._launcher_tail.text())

    def evidence(self) -> Evidence:
        """Return the evidence of why the ranks are over; where we ended them, that of before."""
        return self._evidence or self._present_evidence()

    def _present_evidence(self) -> Evidence:
        output = self._launcher_tail.text()
        return Evidence(
            node=self._settings.node,
            results=dict(self.results),
            exits=self._exits(output),
            torchrun_exit=self._launcher.returncode if self._launcher else None,
            memory_kills=host.out_of_memory_kills() - self._memory_kills,
            memory_shared=self._settings.shares_machine,
            tails=self._outputs.tails(),
            torchrun_tail=output,
        )

    def _exits(self, output: str) -> list[tuple[int, int]]:
        """Return (global rank, exit code) of the ranks that fell. The launcher python is the rank itself."""
        if self._settings.config.launcher is not Launcher.PYTHON:
            return rank_exits(output, self._settings.local_ranks.start)
        code = self._launcher.returncode if self._launcher is not None else None
        return [(self._settings.local_ranks.start, code)] if code else []
