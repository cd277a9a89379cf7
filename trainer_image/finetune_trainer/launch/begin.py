"""The way from a started pod to an attempt that has begun: meet, fence, decide, write the attempt's record.

The order makes it safe. The attempt before is over before anything is decided. The record is on the volume before any rank
starts. And a node that has written its record looks once more for records of other attempts, so that of two attempts that
begin at the same time the older one always learns of the newer.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
import structlog

from finetune_trainer.contract.launch_protocol import Begin, Superseded
from finetune_trainer.contract.prepared import Prepared
from finetune_trainer.contract.records import Cause, Failure, PodPhase, Reason
from finetune_trainer.launch import output_folder, preparation
from finetune_trainer.launch.checkpoints import sweep
from finetune_trainer.launch.fencing import until_over
from finetune_trainer.launch.launch_settings import Peer
from finetune_trainer.launch.meeting import WAITING_AGAIN_SECONDS, WAITING_SECONDS
from finetune_trainer.launch.node import EndedError, Node
from finetune_trainer.launch.resume_decision import (
    CONTINUES,
    ResumeDecision,
    decide,
    may_go_on,
    own_folders,
    run_config,
    runs_to_continue,
)
from finetune_trainer.launch.sealing import assert_newest
from finetune_trainer.shared import host
from finetune_trainer.shared.checkpoints.attempt_file import (
    AttemptRecord,
    newest_attempt_record,
    read_attempt_record,
    read_results,
    write_attempt_record,
)
from finetune_trainer.shared.paths import to_local
from finetune_trainer.shared.result_record import fit_gang
from finetune_trainer.shared.volume import Run, VolumeError, make_folder, write_checked, write_text

log = structlog.get_logger()

NAMED_MAX = 10
_LOOPBACK = "127.0.0.1"
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class NodeEndpoint:
    """Address and interface of this node in the network."""

    address: str
    interface: str | None


async def begin(node: Node, session: aiohttp.ClientSession) -> tuple[Begin, NodeEndpoint]:
    """Begin the attempt, and return when it has begun. Raise SupersededError where it may not begin."""
    if node.settings.node == 0:
        started, address = await _as_node_zero(node, session)
    else:
        started = await node.client.join()
        secret_file = node.settings.layout.run.attempt(node.settings.attempt).secret
        node.secret = (await asyncio.to_thread(secret_file.read_text, encoding="utf-8")).strip()
        address = host.own_address((started.master_address, started.master_port))
    node.progress_state.begun = started.begun
    node.progress_state.resumed_from = started.resume
    node.progress_state.model_path = started.model
    interface = host.interface_of(_LOOPBACK if node.settings.config.nodes == 1 else address)
    log.info("attempt has begun", resume=started.resume.path if started.resume else None)
    return started, NodeEndpoint(address, interface)


async def _as_node_zero(node: Node, session: aiohttp.ClientSession) -> tuple[Begin, str]:
    settings, roster = node.settings, node.node_zero_parts().roster
    run = settings.layout.run
    here = Peer(settings.bind or host.own_address(), settings.port)
    node.secret = await asyncio.to_thread(claim, run, settings.attempt, here)
    previous = await asyncio.to_thread(newest_attempt_record, run, settings.attempt)
    if previous is not None:
        node.progress_state.earlier = fit_gang(await asyncio.to_thread(read_results, run.attempt(previous.attempt)))
    peers = await _wait_for_nodes(node)
    log.info("all nodes are here", nodes=settings.config.nodes)
    address = roster.seen_as or here.host
    addresses = (str(Peer(address, settings.port)), *(peers[index] for index in sorted(peers)))
    record = await decide_and_record(node, session, addresses)
    node.node_zero_parts().coordinator.attempt_record = record
    master = _LOOPBACK if settings.config.nodes == 1 else address
    await asyncio.to_thread(output_folder.restore, settings.layout.run, record.resume)
    started = Begin(
        begun=record.begun,
        master_address=master,
        master_port=host.free_port(master),
        resume=record.resume,
        model=record.model,
        workers=roster.workers(str(Peer(master, host.free_port(master)))),
    )
    roster.begin.set_result(started)
    return started, address


async def _wait_for_nodes(node: Node) -> dict[int, str]:
    """Wait for the other nodes; after a while log which of them are missing."""
    roster = node.node_zero_parts().roster
    complete = asyncio.create_task(roster.complete())
    clock = asyncio.get_running_loop().time
    began, tell_at = clock(), clock() + WAITING_SECONDS
    try:
        while not (await asyncio.wait({complete}, timeout=_LOOK_SECONDS))[0]:
            if clock() - began < WAITING_SECONDS:
                continue
            node.progress_state.waiting_for = named(roster.missing)
            if clock() >= tell_at:
                tell_at += WAITING_AGAIN_SECONDS
                log.warning(
                    "nodes have not come", missing=node.progress_state.waiting_for, seconds=round(clock() - began)
                )
        return complete.result()
    finally:
        complete.cancel()
        node.progress_state.waiting_for = None


def named(nodes: Sequence[int]) -> str:
    """Name nodes: `node 1`, `nodes 1, 2`, `nodes 1, 2, 3 and 997 more`."""
    listed = ", ".join(map(str, nodes[:NAMED_MAX]))
    more = f" and {len(nodes) - NAMED_MAX} more" if len(nodes) > NAMED_MAX else ""
    return f"node{'s' * (len(nodes) > 1)} {listed}{more}"


def claim(run: Run, attempt: int, address: Peer) -> str:
    """Take the attempt's folder, and leave there the secret that the other nodes wait for, and the address of this node."""
    assert_newest(run, attempt)
    own = run.attempt(attempt)
    if read_attempt_record(own) is not None:
        message = f"Attempt {attempt} has begun before, in another pod: an attempt begins once."
        raise VolumeError(Reason.INTERNAL, message, cause=Cause.ERROR)
    make_folder(own.staging, run.folder)
    make_folder(own.checkpoints, run.folder)
    secret = secrets.token_urlsafe(32)
    write_text(own.address, f"{address}\n", mode=0o600)
    write_text(own.secret, secret + "\n", mode=0o600)
    return secret


async def decide_and_record(node: Node, session: aiohttp.ClientSession, addresses: tuple[str, ...]) -> AttemptRecord:
    """Fence, decide and write the attempt's record; do it again if an older attempt has begun meanwhile."""
    settings = node.settings
    layout, run, number = settings.layout, settings.layout.run, settings.attempt
    fenced: set[tuple[str, int]] = set()
    prepared: Prepared | None = None
    while True:
        previous = await _fence(node, session, fenced, prepared)
        if prepared is None and await asyncio.to_thread(may_go_on, layout, settings.config, number):
            prepared = await _prepared_data(node)
            # Where this run's checkpoints were made from other data, an earlier run may be continued: it is fenced, too.
            previous = await _fence(node, session, fenced, prepared)
        await asyncio.to_thread(assert_newest, run, number)
        decision = await asyncio.to_thread(decide, layout, settings.config, number, prepared, settings.expected_step)
        record = _attempt_record(node, addresses, decision)
        await asyncio.to_thread(_write, node, record)
        await asyncio.to_thread(assert_newest, run, number)
        if await asyncio.to_thread(newest_attempt_record, run, number) == previous and _resume_exists(record):
            break
        log.info("another attempt began at the same time: looking again")
    for message in decision.messages:
        log.warning("of what the attempt goes on from", message=message)
    node.progress_state.say(decision.messages)
    await asyncio.to_thread(sweep, run, number)
    return record


def _resume_exists(record: AttemptRecord) -> bool:
    """Return whether the checkpoint to resume from still exists: an older attempt may have rotated it before it saw our record."""
    return record.resume is None or to_local(record.resume.path).is_dir()


def _attempt_record(node: Node, addresses: tuple[str, ...], decision: ResumeDecision) -> AttemptRecord:
    settings = node.settings
    return AttemptRecord(
        uid=settings.config.uid,
        attempt=settings.attempt,
        begun=datetime.now(UTC),
        addresses=addresses,
        grace_period_seconds=settings.config.grace_period_seconds,
        world_size=settings.config.world_size,
        resume=decision.resume,
        known=decision.known,
        model=decision.model,
    )


def _write(node: Node, record: AttemptRecord) -> None:
    run = node.settings.layout.run
    if run_config(run)[0] is None:
        write_checked(run.config, node.settings.config)
    write_attempt_record(run.attempt(record.attempt), record)


async def _prepared_data(node: Node) -> Prepared | None:
    """Return the data that the attempt trains on: it resumes from no checkpoint of other data. Return None where the data is
    damaged: then no rank will start.
    """
    settings = node.settings
    if settings.config.prepare == "none":
        return None
    left = await asyncio.to_thread(preparation.left_by_job, settings.layout.run)
    if isinstance(left, Failure):
        if settings.config.prepare == "job":
            return None
    elif settings.config.prepare == "job" or settings.first_attempt in (None, left.first_attempt):
        return left
    # Node 0 prepares, mostly beside the imports of the ranks. What another round prepared does not count: the source may hold
    # other data by now.
    node.progress_state.phase = PodPhase.PREPARING
    made = await preparation.inline(settings, node.children, node.temporary)
    node.prepared_as(made)
    if isinstance(made, Failure):
        raise EndedError(made.message)
    return made


async def _fence(
    node: Node, session: aiohttp.ClientSession, fenced: set[tuple[str, int]], prepared: Prepared | None
) -> AttemptRecord | None:
    """Wait until the attempt before is over, and an earlier run that this one may resume from; return the record of the
    attempt before.
    """
    settings = node.settings
    run = settings.layout.run
    previous = await asyncio.to_thread(newest_attempt_record, run, settings.attempt)
    waiting = [(run, previous)] if previous is not None else []
    own = await asyncio.to_thread(own_folders, run, settings.attempt, prepared)
    if settings.config.resume_from in CONTINUES and not own:
        waiting += await asyncio.to_thread(runs_to_continue, settings.layout, settings.config)
    for its_run, record in waiting:
        if (record.uid, record.attempt) not in fenced:
            await until_over(session, its_run.attempt(record.attempt), record)
            fenced.add((record.uid, record.attempt))
    if previous is not None:
        node.progress_state.earlier = fit_gang(await asyncio.to_thread(read_results, run.attempt(previous.attempt)))
    return previous


async def tell_superseded(node: Node, session: aiohttp.ClientSession) -> None:
    """Tell an earlier attempt that still runs (its node was cut off) that its work is no longer wanted."""
    settings = node.settings
    run = settings.layout.run
    try:
        previous = await asyncio.to_thread(newest_attempt_record, run, settings.attempt)
        if previous is None:
            return
        secret = await asyncio.to_thread(run.attempt(previous.attempt).secret.read_text)
    except (OSError, ValueError) as error:  # it is fenced nevertheless: what it seals from now on is never read
        log.warning("an earlier attempt can't be told to end", error=str(error))
        return
    for address in previous.addresses:
        try:
            async with session.post(
                f"http://{address}/peer/superseded",
                data=Superseded(attempt=settings.attempt).to_json(),
                headers={"Authorization": f"Bearer {secret.strip()}"},
                timeout=aiohttp.ClientTimeout(total=5),
            ) as answer:
                log.info("told an earlier attempt to end", earlier=previous.attempt, status=answer.status)
        except (aiohttp.ClientError, TimeoutError, OSError):
            continue  # usually nobody listens there any more
