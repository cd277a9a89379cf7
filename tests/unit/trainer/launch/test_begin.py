"""Beginning an attempt: killed at any moment the next one can go on; of two at once the older one learns of it."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from aiohttp import web

from finetune_trainer.contract.launch_protocol import NodeHealth
from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Failure, Outcome, Reason, ResultRecord
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.launch import begin as beginning
from finetune_trainer.launch import fencing
from finetune_trainer.launch.begin import claim, decide_and_record, named
from finetune_trainer.launch.checkpoints import sweep
from finetune_trainer.launch.children import Children
from finetune_trainer.launch.launch_settings import Peer, Settings
from finetune_trainer.launch.node import EndedError, Ending, Node
from finetune_trainer.launch.peers import NodeZero
from finetune_trainer.launch.resume_decision import ResumeDecision, decide
from finetune_trainer.launch.sealing import SupersededError
from finetune_trainer.shared.checkpoints.attempt_file import (
    AttemptRecord,
    newest_attempt_record,
    read_attempt_record,
    write_attempt_record,
)
from finetune_trainer.shared.result_record import write_to_volume
from finetune_trainer.shared.volume import Layout, Run, VolumeError, write_checked, write_document
from tests.support.checkpoints import START, begin, layout, newest_good, prepared, run_config, seal, two_sealed
from tests.support.crashes import every_moment
from tests.support.damage import DAMAGE
from tests.support.patience import PATIENCE_SECONDS
from tests.support.somebody_else import as_somebody_else

HERE = Peer("127.0.0.1", 1)


def settings(folder: Path, attempt: int, **fields: Any) -> Settings:
    config = run_config(output=str(folder), **fields)
    return Settings(
        config=config,
        config_file=folder / "run.json",
        attempt=attempt,
        node=0,
        peers=(HERE,),
        bind="127.0.0.1",
        termination_log=folder / "log",
        first_attempt=attempt,
    )


def with_node(
    folder: Path, attempt: int, work: Callable[[Node, aiohttp.ClientSession], Awaitable[AttemptRecord]], **fields: Any
) -> AttemptRecord:
    """Run `work` with the parts of node 0 of an attempt."""

    async def run() -> AttemptRecord:
        temporary = folder / f"temporary-{attempt}"
        temporary.mkdir()
        children = Children()
        async with aiohttp.ClientSession() as session:
            own = settings(folder, attempt, **fields)
            claim(own.layout.run, attempt, HERE)
            node = Node(own, children, NodeZero(session, own), temporary)
            try:
                return await work(node, session)
            finally:
                children.close()

    return asyncio.run(run())


def record(attempt: int) -> ResultRecord:
    return ResultRecord(role="train", uid="u", attempt=attempt, outcome=Outcome.FAILED, started=START, finished=START)


def test_killed_while_it_begins_the_next_attempt_goes_on(tmp_path: Path) -> None:
    def begins(place: Layout) -> None:
        claim(place.run, 2, HERE)
        decision = decide(place, run_config(), 2)
        begin(place.run, 2, known=decision.known, resume=decision.resume)
        sweep(place.run, 2)

    volumes = every_moment(tmp_path, two_sealed, begins)
    assert len(volumes) > 10
    for place in volumes:
        assert newest_good(place) == 20
        decision = decide(place, run_config(), 3)
        assert decision.resume is not None
        assert decision.resume.step == 20


def test_an_older_attempt_that_begins_meanwhile_is_fenced_and_read_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = layout(tmp_path).run
    looked = []

    def decide_while_another_begins(
        place: Layout, config: TaskConfig, attempt: int, of: PreparedTask | None, expected: int | None
    ) -> ResumeDecision:
        looked.append(attempt)
        decision = decide(place, config, attempt, of, expected)
        if len(looked) == 1:
            begin(run, 1)
            seal(run, 1, 10)
            write_to_volume(run.attempt(1), record(1))
        return decision

    monkeypatch.setattr(beginning, "decide", decide_while_another_begins)
    mark = with_node(tmp_path, 2, lambda node, session: decide_and_record(node, session, ("127.0.0.1:1",)))
    assert looked == [2, 2]
    assert mark.resume is not None
    assert mark.resume.step == 10
    assert [ref.step for ref in mark.known] == [10]


def test_a_newer_attempt_that_begins_meanwhile_ends_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = layout(tmp_path).run

    def decide_while_another_begins(
        place: Layout, config: TaskConfig, attempt: int, of: PreparedTask | None, expected: int | None
    ) -> ResumeDecision:
        begin(run, 3)
        return decide(place, config, attempt, of, expected)

    monkeypatch.setattr(beginning, "decide", decide_while_another_begins)
    with pytest.raises(SupersededError):
        with_node(tmp_path, 2, lambda node, session: decide_and_record(node, session, ("127.0.0.1:1",)))


def decided(node: Node, session: aiohttp.ClientSession) -> Awaitable[AttemptRecord]:
    return decide_and_record(node, session, ("127.0.0.1:1",))


def test_an_attempt_goes_on_from_checkpoints_of_what_is_prepared_now(tmp_path: Path) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    seal(run, 1, 10, trained_on=prepared())
    write_to_volume(run.attempt(1), record(1))
    write_checked(run.prepared, prepared())
    assert with_node(tmp_path, 2, decided).resume is not None
    write_to_volume(run.attempt(2), record(2))
    write_checked(run.prepared, prepared(("good", "negative"), "b"))
    mark = with_node(tmp_path, 3, decided)
    assert (mark.resume, mark.known) == (None, ())


def test_data_of_another_round_is_looked_at_before_it_is_decided(tmp_path: Path) -> None:
    """Data is known within a round. Here, in another round, the real prepare finds that the model is gone."""
    run = layout(tmp_path).run
    begin(run, 1)
    seal(run, 1, 10, trained_on=prepared())
    write_to_volume(run.attempt(1), record(1))
    write_checked(run.prepared, prepared().model_copy(update={"first_attempt": 2}))
    assert with_node(tmp_path, 2, decided, prepare="inline").resume is not None
    write_to_volume(run.attempt(2), record(2))
    nodes = []

    def look(node: Node, session: aiohttp.ClientSession) -> Awaitable[AttemptRecord]:
        nodes.append(node)
        return decided(node, session)

    with pytest.raises(EndedError):
        with_node(tmp_path, 3, look, prepare="inline", model={"name": str(tmp_path / "no-model")})
    ending, _ = nodes[0].ended.result()
    assert ending is Ending.PREPARE_FAILED
    assert not run.attempt(3).record_file.exists()


async def served(health: NodeHealth, work: Callable[[str], Awaitable[float]]) -> float:
    """Serve answers to /healthz."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text=health.to_json())

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        return await work(f"127.0.0.1:{port}")
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        (NodeHealth(uid="u", attempt=1, node=0, begun=True), 1.0),  # it answers: its grace period
        (NodeHealth(uid="u", attempt=2, node=0, begun=True), 0.4),  # somebody else has its address now
        (NodeHealth(uid="other", attempt=1, node=0, begun=True), 0.4),
    ],
)
def test_who_answers_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, health: NodeHealth, expected: float
) -> None:
    answers = expected == 1.0
    monkeypatch.setattr(fencing, "UNREACHABLE_SECONDS", 3600.0 if answers else 0.3)
    monkeypatch.setattr(fencing, "_POLL_SECONDS", 0.02)
    run = layout(tmp_path).run
    mark = begin(run, 1)

    async def wait(address: str) -> float:
        grace_period_seconds = 1 if answers else 3600
        here = mark.model_copy(update={"addresses": (address,), "grace_period_seconds": grace_period_seconds})
        began = asyncio.get_running_loop().time()
        async with aiohttp.ClientSession() as session:
            await fencing.until_over(session, run.attempt(1), here)
        return asyncio.get_running_loop().time() - began

    waited = asyncio.run(served(health, wait))
    assert waited > expected - 0.2


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("both", [False, True], ids=["the mark", "both"])
def test_an_attempt_whose_mark_is_damaged_keeps_no_other_from_beginning(
    tmp_path: Path, damage: Callable[[Path], None], both: bool
) -> None:
    """The next attempt goes on from what it has sealed: only an attempt that has begun seals anything."""
    place = layout(tmp_path)
    two_sealed(place)
    write_to_volume(place.run.attempt(1), record(1))
    damage(place.run.attempt(1).record_file)
    if both:
        damage(place.run.attempt(1).record_copy)
    mark = with_node(tmp_path, 2, lambda node, session: decide_and_record(node, session, ("127.0.0.1:1",)))
    assert mark.resume is not None
    assert (mark.resume.step, [ref.step for ref in mark.known]) == (20, [10, 20])
    assert read_attempt_record(place.run.attempt(2)) == mark


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_mark_of_its_own_is_written_anew(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    for file in (run.attempt(1).record_file, run.attempt(1).record_copy):
        damage(file)
    mark = with_node(tmp_path, 1, lambda node, session: decide_and_record(node, session, ("127.0.0.1:1",)))
    assert read_attempt_record(run.attempt(1)) == mark


def test_a_mark_of_an_older_release_is_read(tmp_path: Path) -> None:
    run = layout(tmp_path).run
    mark = begin(run, 1)
    run.attempt(1).record_copy.unlink()
    write_document(run.attempt(1).record_file, mark)
    assert newest_attempt_record(run) == mark


def test_a_mark_under_another_number_is_none(tmp_path: Path) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    shutil.copytree(run.attempt(1).folder, run.attempt(2).folder)
    assert read_attempt_record(run.attempt(2)) is None


def test_an_attempt_that_can_not_be_looked_at_is_named() -> None:
    """An attempt that began anew beside it would throw away what it has sealed."""
    with tempfile.TemporaryDirectory() as folder:
        place = layout(Path(folder))
        two_sealed(place)

        def look() -> Failure | None:
            place.run.attempt(1).folder.chmod(0)
            try:
                decide(place, run_config(), 2)
            except VolumeError as error:
                return error.failure
            finally:
                place.run.attempt(1).folder.chmod(0o755)
            return None

        failure = as_somebody_else(Path(folder), look)
    assert failure is not None
    assert failure.reason is Reason.VOLUME_UNREADABLE
    assert "attempts/1" in failure.message


def test_killed_between_its_two_marks_an_attempt_has_begun(tmp_path: Path) -> None:
    mark = AttemptRecord(uid="u", attempt=1, begun=START, addresses=(), grace_period_seconds=1, world_size=2)

    def begins(place: Layout) -> None:
        write_attempt_record(place.run.attempt(1), mark)

    volumes = every_moment(tmp_path, lambda place: claimed(place.run), begins)
    records = [newest_attempt_record(place.run) for place in volumes]
    begun = [record == mark for record in records]
    assert set(begun) == {False, True}
    assert begun == sorted(begun)


def claimed(run: Run) -> None:
    claim(run, 1, HERE)


def test_orphans_become_no_zombies(tmp_path: Path) -> None:
    code = "import os, time\nif os.fork() == 0:\n    time.sleep(0.2)\n    os._exit(0)\nos._exit(3)"

    before = set(psutil.Process().children())  # what other tests of this process have left: a resource tracker

    async def run() -> int:
        children = Children()
        child = await children.start([sys.executable, "-c", code], os.environ)
        status = await child.wait()
        while set(psutil.Process().children()) - before:  # noqa: ASYNC110 - what is waited for is the class's own doing
            await asyncio.sleep(0.02)
        children.close()
        return status

    assert asyncio.run(run()) == 3


def test_children_end_with_their_parent(tmp_path: Path) -> None:
    code = f"""
import asyncio, os, sys
sys.path.insert(0, {str(Path(beginning.__file__).parents[2])!r})
from finetune_trainer.launch.children import Children
async def run():
    child = await Children().start(["sleep", "100"], os.environ)
    print(child.pid, flush=True)
    await child.wait()
asyncio.run(run())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
    assert psutil.wait_procs([child], timeout=PATIENCE_SECONDS)[1] == []


def test_the_address_lies_beside_the_secret_for_the_pods_user_alone(tmp_path: Path) -> None:
    run = layout(tmp_path).run
    claim(run, 1, Peer("fd00::7", 8080))
    own = run.attempt(1)
    assert own.address.read_text() == "[fd00::7]:8080\n"
    assert {file.stat().st_mode & 0o777 for file in (own.address, own.secret)} == {0o600}


def test_nodes_that_are_waited_for_are_named_as_far_as_anybody_reads() -> None:
    assert named([1]) == "node 1"
    assert named([1, 3]) == "nodes 1, 3"
    assert named(range(1, 1000)) == "nodes 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 989 more"
