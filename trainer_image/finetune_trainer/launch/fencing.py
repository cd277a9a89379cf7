"""The wait for an attempt that has begun, until it is over and the next one may begin.

A node is over when its result record is on the volume, when its `launch` can't be reached for a while, or when its grace
period has passed since the wait began. So an old gang keeps its time to save, and a dead one costs little.
"""

from __future__ import annotations

import asyncio

import aiohttp
import structlog
from pydantic import ValidationError

from finetune_trainer.contract.launch_protocol import NodeHealth
from finetune_trainer.shared.checkpoints.attempt_file import AttemptRecord
from finetune_trainer.shared.volume import Attempt, exists

UNREACHABLE_SECONDS = 5.0
_POLL_SECONDS = 0.25
_ANSWER_SECONDS = 2.0
_HEALTH_BYTES_MAX = 4096

log = structlog.get_logger()


async def why_unreachable(
    session: aiohttp.ClientSession, address: str, uid: str, attempt: int, node: int
) -> str | None:
    """Return why the `launch` of this node of this attempt does not answer at an address; None where it does."""
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
    try:
        async with session.get(f"http://{address}/healthz", timeout=timeout, allow_redirects=False) as response:
            health = NodeHealth.model_validate_json(await response.content.read(_HEALTH_BYTES_MAX))
    except aiohttp.ClientConnectorError as error:
        return f"{address} can't be reached: {error.os_error.strerror or error.os_error}"
    except TimeoutError:
        return f"{address} does not answer within {_ANSWER_SECONDS:.0f} s"
    except (aiohttp.ClientError, ValidationError, OSError):
        return f"what answers at {address} is no launch"
    if (health.uid, health.attempt, health.node) == (uid, attempt, node):
        return None
    return f"at {address} answers node {health.node} of attempt {health.attempt} of {health.uid}"


async def until_over(session: aiohttp.ClientSession, attempt: Attempt, record: AttemptRecord) -> None:
    """Wait until every node of the attempt is over."""
    reasons = await asyncio.gather(
        *(_node_over(session, attempt, record, node, address) for node, address in enumerate(record.addresses))
    )
    log.info("earlier attempt is over", earlier=record.attempt, nodes=dict(enumerate(reasons)))


async def _node_over(
    session: aiohttp.ClientSession, attempt: Attempt, record: AttemptRecord, node: int, address: str
) -> str:
    now = asyncio.get_running_loop().time
    began = last_seen = now()
    while True:
        if await asyncio.to_thread(exists, attempt.result(node)):
            return "record"
        if now() - began >= record.grace_period_seconds:
            return "grace period"
        if await why_unreachable(session, address, record.uid, record.attempt, node) is None:
            last_seen = now()
        elif now() - last_seen >= UNREACHABLE_SECONDS:
            return "unreachable"
        await asyncio.sleep(_POLL_SECONDS)
