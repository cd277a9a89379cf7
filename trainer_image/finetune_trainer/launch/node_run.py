"""The life of a node: begin, run the ranks, wind down, leave a record. This module holds the order of these steps only.

Unexpected errors end here, with a record of their own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from aiohttp import web

from finetune_trainer.contract.prepared import Prepared
from finetune_trainer.contract.records import Cause, Exit, Failure, Outcome, PodPhase, Reason, ResultRecord
from finetune_trainer.launch import accelerate_test, launch_log, preparation
from finetune_trainer.launch.begin import begin, tell_superseded
from finetune_trainer.launch.children import Children
from finetune_trainer.launch.launch_settings import Settings
from finetune_trainer.launch.node import Ending, Node
from finetune_trainer.launch.outcome import record_of
from finetune_trainer.launch.output_folder import Completeness
from finetune_trainer.launch.output_watch import OutputWatch
from finetune_trainer.launch.peers import NodeZero
from finetune_trainer.launch.server import application
from finetune_trainer.shared import result_record
from finetune_trainer.shared.volume import VolumeError, probe

log = structlog.get_logger()

EXIT_BARRIER_SECONDS = 0.5
"""Time for torchrun to end by itself. It waits up to five minutes for the agents of other nodes, but the ranks' results have
decided by then."""
FAILURE_SECONDS = 5.0
"""Time after a rank's failure for torchrun to see which rank failed first, and how."""
PEERS_SECONDS = 60.0
"""Time that node 0 stays for the other nodes, because it seals and serves the group's store."""
SEALING_SECONDS = 60.0
VOLUME_SECONDS = 60.0
"""A volume that is full or away for less costs no attempt. The time is short, because accelerators are held meanwhile."""
VOLUME_LOOK_SECONDS = 2.0
MESSAGE_IN_LOG = 400
_RESERVE_SECONDS = 4.0
"""Part of the grace period for sealing and for the record."""


def main(rank_command: tuple[str, ...] | None = None) -> int:
    """Run this node; the exit code is 0 only when the record says success."""
    settings = Settings.from_env(os.environ, rank_command)
    launch_log.configure(settings.node, settings.attempt)
    record = asyncio.run(_run(settings))
    codes = {Outcome.SUCCEEDED: Exit.SUCCEEDED, Outcome.STOPPED: Exit.STOPPED}
    return codes.get(record.outcome, Exit.FAILED)


async def _run(settings: Settings) -> ResultRecord:
    started = datetime.now(UTC)
    children = Children()
    connector = aiohttp.TCPConnector(use_dns_cache=False, limit=0)
    with tempfile.TemporaryDirectory(prefix="finetune-") as folder:
        async with aiohttp.ClientSession(connector=connector) as session:
            node = Node(settings, children, NodeZero(session, settings), Path(folder))
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, node.stop)
            runner = web.AppRunner(application(node), handler_cancellation=True, access_log=None, shutdown_timeout=1)
            await runner.setup()
            try:
                return await _serve(node, session, runner, started)
            finally:
                children.kill_all()
                await node.background.cancel()
                await runner.cleanup()
                children.close()


async def _serve(node: Node, session: aiohttp.ClientSession, runner: web.AppRunner, started: datetime) -> ResultRecord:
    try:
        await web.TCPSite(runner, node.settings.bind, node.settings.port).start()
        await _work(node, session)
    except Exception as error:  # noqa: BLE001 - the outermost loop: everything ends in a record
        node.went_wrong(error)
        await node.ranks.end(patience_seconds=0, graceful_seconds=2)
    await _look_at_data(node)
    node.progress_state.phase = PodPhase.DONE
    record = last_record(node, started)
    if record.outcome is Outcome.FAILED:
        node.ranks.echo()
    await _write_record(node, record)
    return record


async def _look_at_data(node: Node) -> None:
    """Read the prepared data again where a rank was ended by SIGBUS: the data is damaged, or shared memory was full."""
    if not node.prepared.done() or not node.ranks.evidence().bus_error:
        return
    checked = await asyncio.to_thread(preparation.checked, node.prepared.result())
    if isinstance(checked, Failure):
        node.data_failure = checked


def last_record(node: Node, started: datetime) -> ResultRecord:
    """Return the record of a node whose work is over. An error in making it (a volume that can't be read) becomes a record too."""
    try:
        return result_record.fit(record_of(node, started))
    except Exception as error:  # a node without a record would be taken for killed
        log.error("the record could not be made", exc_info=error)
        settings, text = node.settings, "".join(traceback.format_exception(error))
        failure = Failure(reason=Reason.INTERNAL, cause=Cause.ERROR, message=text, node=settings.node)
        record = ResultRecord(
            role="train",
            uid=settings.config.uid,
            attempt=settings.attempt,
            node=settings.node,
            outcome=Outcome.FAILED,
            failure=failure,
            started=started,
            finished=datetime.now(UTC),
        )
        return result_record.fit(record)


async def _work(node: Node, session: aiohttp.ClientSession) -> None:
    log.info("launch is up", port=node.settings.port)
    if not await _writable(node):
        return
    await node.ranks.warm_up()
    beginning = asyncio.create_task(begin(node, session))
    either: list[asyncio.Future[Any]] = [beginning, node.ended]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if not beginning.done():
        beginning.cancel()
        await asyncio.wait({beginning})
        return
    started, endpoint = beginning.result()
    if started.model is not None:
        if node.coordinator is not None:
            await node.coordinator.link_model(started.model)
        node.end(Ending.NOTHING_TO_DO, started.model)
        await _wait_for_peers(node)
        return
    if node.output_watch is not None:
        await node.output_watch.begin()
        node.background.start(node.output_watch.watch())
    inline = node.settings.config.prepare == "inline" and not node.prepared.done()
    node.progress_state.phase = PodPhase.PREPARING if inline else PodPhase.STARTING
    node.background.start(_prepare(node))
    node.background.start(tell_superseded(node, session) if node.roster is not None else _watch_node_zero(node))
    if not await accelerate_test.passed(node, started, endpoint.interface):
        await _wind_down(node)
        return
    await node.ranks.start(started, endpoint.interface, lambda: node.end(Ending.TORCHRUN_ENDED))
    await asyncio.shield(node.ended)
    await _wind_down(node)


async def _writable(node: Node) -> bool:
    """Return whether the volume can be written to; wait for a volume that could be written to before."""
    clock = asyncio.get_running_loop().time
    until, reported = clock() + VOLUME_SECONDS, False

    def look() -> None:
        probe(node.settings.layout, worked=node.volume_has_worked())

    while True:
        try:
            await asyncio.to_thread(look)
        except VolumeError as error:
            if error.failure.cause is not Cause.VOLUME or clock() >= until:
                raise
            if not reported:
                node.progress_state.say((f"The attempt waits for its volume. {error}",))
                log.warning("the volume is waited for", error=str(error))
            reported = True
        else:
            return True
        await asyncio.wait((node.ended,), timeout=VOLUME_LOOK_SECONDS)
        if node.ended.done():
            return False


async def _prepare(node: Node) -> None:
    if node.prepared.done():  # before the attempt began
        return
    if node.settings.config.prepare == "none":
        node.prepared_as(Prepared(config_digest=""))
        return
    if node.roster is not None and node.settings.config.prepare == "inline":
        # Inline preparing has checked the data itself.
        node.prepared_as(await preparation.inline(node.settings, node.children, node.temporary))
        return
    if node.roster is None:
        prepared = await node.client.prepared()
    else:
        prepared = await asyncio.to_thread(preparation.left_by_job, node.settings.layout.run)
    node.prepared_as(await asyncio.to_thread(preparation.checked, prepared))


async def _watch_node_zero(node: Node) -> None:
    node.peer_fell(await node.client.end())


async def _wind_down(node: Node) -> None:
    """Give the ranks the time that they may have, seal what they have handed over, and end what is left."""
    ending, _ = node.ended.result()
    match ending:
        case Ending.RANKS_DONE:
            await _wait_for_sealing(node)
            await _wait_for_peers(node)
            await node.ranks.end(patience_seconds=node.seconds_left(2, EXIT_BARRIER_SECONDS), graceful_seconds=0)
        case Ending.STOPPED:
            # This is where a coordinated stop begins: ranks that agree on a last step report a checkpoint before they
            # end.
            left = node.seconds_left(_RESERVE_SECONDS, node.settings.config.grace_period_seconds)
            await node.ranks.end(patience_seconds=0, graceful_seconds=left)
        case Ending.SUPERSEDED | Ending.PREPARE_FAILED | Ending.BROKEN:
            await node.ranks.end(patience_seconds=0, graceful_seconds=2)
        case _:
            await node.ranks.end(patience_seconds=node.seconds_left(3, FAILURE_SECONDS), graceful_seconds=2)
    if ending is not Ending.SUPERSEDED:
        if node.output_watch is not None and ending is not Ending.RANKS_DONE:
            await _look_at_output(node, node.output_watch)
        await _wait_for_sealing(node)
    if node.coordinator is not None and node.progress_state.model_path is not None:
        await node.coordinator.tidy()


async def _look_at_output(node: Node, watch: OutputWatch) -> None:
    """Have the last checkpoints sealed of a program that has failed, or has ended because it was asked to."""
    has_ended_well, alone = node.ranks.all_reported(Outcome.STOPPED), node.settings.config.nodes == 1
    await watch.look(program_has_ended=True, has_ended_well=has_ended_well and alone)
    if has_ended_well and not alone:  # ranks of other nodes may still write their parts
        await asyncio.sleep(node.seconds_left(2, Completeness.WHOLE.value))
        await watch.look(has_ended_well=True)


async def _wait_for_sealing(node: Node) -> None:
    """Wait until everything that was handed over is sealed, but not without end for a volume that hangs."""
    seconds = node.seconds_left(1, SEALING_SECONDS)
    try:
        await asyncio.wait_for(node.checkpoint_writer.idle(), seconds)
        if node.coordinator is not None:
            await asyncio.wait_for(node.coordinator.idle(), seconds)
    except TimeoutError:
        node.progress_state.say(("the last checkpoint could not be sealed in time",))
        log.error("sealing did not end in time", seconds=seconds)


async def _wait_for_peers(node: Node) -> None:
    """Wait on node 0 until every other node has reported its end, or a signal comes."""
    if node.roster is None:
        return
    ended = asyncio.create_task(node.roster.all_ended())
    stopped = asyncio.create_task(node.stopped.wait())
    _, unfinished = await asyncio.wait({ended, stopped}, timeout=PEERS_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    for task in unfinished:
        task.cancel()
    if node.coordinator is not None:
        await node.coordinator.idle()


def _write_termination_log(file: Path, record: ResultRecord) -> None:
    try:
        result_record.write_to_termination_log(file, record)
    except OSError as error:
        log.error("the record could not be written to the termination log", error=str(error))


async def _write_record(node: Node, record: ResultRecord) -> None:
    """Write the record, to the volume first: the next attempt waits for it there."""
    settings = node.settings
    try:
        await asyncio.to_thread(result_record.write_to_volume, settings.layout.run.attempt(settings.attempt), record)
    except OSError as error:
        log.error("the record could not be written to the volume", error=str(error))
    finally:
        _write_termination_log(settings.termination_log, record)
    failure = record.failure
    log.info(
        "ended",
        outcome=record.outcome.value,
        reason=failure.reason.value if failure else None,
        message=failure.message[:MESSAGE_IN_LOG] if failure else None,
    )
    if node.roster is None and node.progress_state.begun is not None:
        try:
            await node.client.ended(record)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.info("node 0 was not told of the end", error=str(error))
