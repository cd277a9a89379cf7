"""The test that Accelerate brings, run on all nodes before a user's program: a network or a device that does not work is known early."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import structlog

from finetune_trainer.contract.launch_protocol import Begin
from finetune_trainer.contract.records import Cause, Failure, Reason
from finetune_trainer.launch import launcher
from finetune_trainer.launch.last_words import last_words
from finetune_trainer.launch.node import Ending, Node
from finetune_trainer.launch.output import Tail, follow
from finetune_trainer.launch.ranks import environment

PROGRAM = ("-m", "accelerate.test_utils.scripts.test_script")
"""What `accelerate test` runs."""
SECONDS = 600.0
"""Time after which nodes that do not answer one another are given up."""

log = structlog.get_logger()


async def passed(node: Node, begin: Begin, interface: str | None) -> bool:
    """Return whether the node goes on: there is no test, or it has passed. Where it has not, the node's work is over."""
    script = node.settings.config.script
    if script is None or not script.preflight:
        return True
    testing = asyncio.create_task(_run(node, begin, interface))
    either: list[asyncio.Future[Any]] = [testing, node.ended]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not testing.done():
        testing.cancel()
        await asyncio.wait({testing})
        node.children.kill_all()
        return False
    failure = testing.result()
    if failure is not None:
        node.end(Ending.BROKEN, failure.message, failure)
    return failure is None


async def _run(node: Node, begin: Begin, interface: str | None) -> Failure | None:
    settings = node.settings
    env = environment(settings, os.environ, interface, node.temporary / "token", node.temporary / "output", begin)
    command = launcher.accelerate_launch(settings, begin, node.temporary, PROGRAM)
    log.info("the pre-flight test of accelerate begins")
    child = await node.children.start(command, env)
    if child.stdout is None:
        raise RuntimeError("the pre-flight test was started without a pipe")
    tail, code = Tail(), None
    try:
        async with asyncio.timeout(SECONDS):
            await follow(child.stdout, tail, echo=settings.node == 0)
            code = await child.wait()
    except TimeoutError:
        node.children.kill_all()
    if code == 0:
        log.info("the pre-flight test has passed")
        return None
    how = f"ended with exit code {code}" if code is not None else f"has not ended within {SECONDS:.0f} s"
    message = (
        f"The pre-flight test (accelerate test) {how} on node {settings.node}: the nodes can't train together. Last lines:\n"
        f"{last_words(tail.text())}"
    )
    return Failure(
        reason=Reason.PREFLIGHT_FAILED, cause=Cause.ERROR, message=message, node=settings.node, exit_code=code
    )
