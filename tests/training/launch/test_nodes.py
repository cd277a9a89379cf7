"""Several nodes of one attempt: how they meet, what they must know of each other, how they end together."""

import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.contract.launch_protocol import Join, NodeCheckpoint
from finetune_trainer.contract.records import Outcome, PodPhase, Reason
from finetune_trainer.contract.run_config import Env
from finetune_trainer.launch import peers
from finetune_trainer.shared.checkpoints import manifest
from finetune_trainer.shared.checkpoints.attempt_file import read_attempt_record
from finetune_trainer.shared.host import free_port
from tests.support.launched import START, Launches, NodeProcess, until
from tests.support.link import Link

LONG = {"steps": 2000, "step_seconds": 0.05, "save_every": 10, "wait_sealed": False}


@pytest.fixture
def two(launches: Launches) -> Launches:
    launches.nodes = 2
    return launches


def test_two_nodes_begin_together_and_seal_one_checkpoint(two: Launches) -> None:
    ports = [free_port("127.0.0.1"), free_port("127.0.0.1")]
    plan = {"steps": 4, "save_every": 2}
    (second,) = two.start(plan=plan, only=(1,), ports=ports)
    until(second.progress)
    (first,) = two.start(plan=plan, only=(0,), ports=ports)
    assert [first.wait(), second.wait()] == [0, 0]
    records = [first.record(), second.record()]
    assert [record.outcome for record in records] == [Outcome.SUCCEEDED, Outcome.SUCCEEDED]
    assert records[1].model_path is None  # node 0's to say
    attempt = two.layout.run.attempt(1)
    mark = read_attempt_record(attempt)
    assert mark is not None
    assert mark.addresses == tuple(f"127.0.0.1:{port}" for port in ports)
    assert mark.world_size == 2
    sealed = manifest.read(attempt.checkpoint(4))
    assert sealed is not None
    assert set(sealed.files) == {"model.safetensors", "sub/part.bin", "rng_state_0.pth", "rng_state_1.pth"}
    assert manifest.problem(attempt.checkpoint(4)) is None
    assert "rank 0 of 2: lo" in first.text()


def test_two_nodes_meet_where_there_is_ipv6_alone(two: Launches) -> None:
    two.host = "::1"
    ports = [free_port(two.host), free_port(two.host)]
    nodes = two.start(plan={"steps": 2, "save_every": 2}, ports=ports)
    assert [node.wait() for node in nodes] == [0, 0]
    mark = read_attempt_record(two.layout.run.attempt(1))
    assert mark is not None
    assert mark.addresses == tuple(f"[::1]:{port}" for port in ports)
    assert "rank 0 of 2: lo" in nodes[0].text()


NOTES_WHAT_RUNS_BESIDE_THE_READING = """
import psutil
from finetune_trainer.shared import data_digests

def noted(*data, problem=data_digests.problem):
    commands = [child.cmdline() for child in psutil.Process().children(recursive=True)]
    print("data read beside", sum("finetune_trainer.launch.torchrun" in command for command in commands), "torchrun", flush=True)
    return problem(*data)

data_digests.problem = noted
"""


def test_node_reads_prepared_data_once(two: Launches) -> None:
    """Each node reads the prepared data once, beside the imports of its ranks."""
    two.processes = 2
    two.start_code = NOTES_WHAT_RUNS_BESIDE_THE_READING + START
    nodes = two.start(plan={"steps": 2})
    assert [node.wait() for node in nodes] == [0, 0]
    for node in nodes:
        assert node.text().count("data read beside") == 1
        assert "data read beside 1 torchrun" in node.text()


def test_no_attempt_begins_before_every_node_is_there(two: Launches) -> None:
    two.nodes = 3
    two.start_code = "from finetune_trainer.launch import begin\nbegin.WAITING_SECONDS = 1\n" + START
    ports = [free_port("127.0.0.1") for _ in range(3)]
    plan = {"steps": 1}
    first, second = two.start(plan=plan, only=(0, 1), ports=ports)
    until(second.progress)
    secret = until(lambda: two.layout.run.attempt(1).secret.exists() and two.layout.run.attempt(1).secret.read_text())
    # Node 1 may be late, too.
    waiting = until(lambda: (seen := first.progress()) and seen.waiting_for == "node 2" and seen)
    assert (waiting.phase, waiting.begun) == (PodPhase.WAITING, None)
    assert "nodes have not come" in first.text()

    # Who does not know the attempt's secret is not let in, nor one of another attempt or uid.
    join = Join(uid=two.uid, attempt=1, node=2, port=ports[2])
    assert first.ask("POST", "/peer/join", "guessed", join.to_json())[0] == 401
    assert first.ask("POST", "/peer/join", None, join.to_json())[0] == 401
    for wrong in ({"attempt": 2}, {"uid": "other"}, {"node": 7}):
        body = join.model_copy(update=wrong).to_json()
        assert first.ask("POST", "/peer/join", secret.strip(), body)[0] == 409
    report = NodeCheckpoint(node=1, step=1).to_json()
    assert first.ask("POST", "/peer/checkpoint", "guessed", report)[0] == 401

    # A peer that joined and went away does not count.
    with socket.create_connection(("127.0.0.1", ports[0])) as gone:
        body = join.to_json()
        head = f"POST /peer/join HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret.strip()}\r\n"
        gone.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()[:-1])
    assert two.layout.run.begun() == []

    (third,) = two.start(plan=plan, only=(2,), ports=ports)
    assert [node.wait() for node in (first, second, third)] == [0, 0, 0]


def test_a_node_that_fails_ends_the_others(two: Launches) -> None:
    kill = {"rank": 1, "step": 5, "signal": signal.SIGKILL}
    records = two.run(plan=LONG | {"kill": kill})
    failures = [record.failure for record in records]
    assert failures[0] is not None
    assert failures[1] is not None
    assert (failures[1].reason, failures[1].rank, failures[1].node) == (Reason.RANK_KILLED, 1, 1)
    assert failures[0].reason is Reason.PEER_LOST
    assert "node 1" in failures[0].message
    assert [node.process.returncode for node in two.started] == [1, 1]


def test_a_name_that_never_resolves_is_no_hindrance(two: Launches) -> None:
    ports = [free_port("127.0.0.1"), free_port("127.0.0.1")]
    unknown = {Env.PEERS.value: f"node-0.invalid:{ports[0]},127.0.0.1:{ports[1]}"}
    plan = {"steps": 2}
    two.start_code = "from finetune_trainer.launch import meeting\nmeeting.WAITING_SECONDS = 1\n" + START
    (second,) = two.start(plan=plan, only=(1,), ports=ports, env=unknown)
    until(lambda: "node 0 is not found" in second.text())
    assert "node-0.invalid" in second.text()
    (first,) = two.start(plan=plan, only=(0,), ports=ports)
    assert [first.wait(), second.wait()] == [0, 0]


QUICK = """
from finetune_trainer.launch import meeting, peers, server
async def not_by_address(meeting): return "not in this test"
meeting.Meeting._by_address = not_by_address  # past the link
peers.HOLD_SECONDS = server.HOLD_SECONDS = 0.5
peers.ANSWER_SECONDS = 1.0
peers.LOST_SECONDS, peers.SILENCE_SECONDS = {lost}, {lost} + 2
"""


def linked(two: Launches, link: Link, plan: dict[str, Any]) -> list[NodeProcess]:
    """Start two nodes that train; node 1 knows node 0 by a link alone."""
    ports = [link.target, free_port("127.0.0.1")]
    (first,) = two.start(plan=plan, only=(0,), ports=ports)
    (second,) = two.start(plan=plan, only=(1,), ports=[link.port, ports[1]])
    until(lambda: (seen := first.progress()) and (seen.step or 0) >= 2)
    return [first, second]


def test_cut_link_ends_nothing_while_ranks_step(two: Launches, tmp_path: Path) -> None:
    """A link that is cut for a while ends nothing while the ranks get on."""
    two.start_code = QUICK.format(lost=4) + START
    enough = tmp_path / "enough"
    with Link(free_port("127.0.0.1")) as link:
        first, second = linked(two, link, LONG | {"steps": 10, "until": str(enough)})
        link.cut()
        until(lambda: "node 0 does not answer" in second.text())  # for longer than LOST_SECONDS
        assert second.process.poll() is None, second.text()
        before = sealed(two)
        link.mend()
        until(lambda: "node 0 answers again" in second.text())
        until(lambda: sealed(two) > before)  # what was saved meanwhile is sealed afterwards
        enough.touch()
        assert [first.wait(), second.wait()] == [0, 0]
    assert [node.record().outcome for node in (first, second)] == [Outcome.SUCCEEDED, Outcome.SUCCEEDED]
    assert first.record().model_path is not None


def sealed(two: Launches) -> int:
    """Return the step of the newest checkpoint that is sealed; 0 if there is none."""
    checkpoints = two.layout.run.attempt(1).checkpoints
    return max((int(folder.name.removeprefix("checkpoint-")) for folder in checkpoints.glob("*[0-9]")), default=0)


def test_without_a_word_from_node_0_or_from_the_ranks_it_is_lost(two: Launches) -> None:
    two.start_code = QUICK.format(lost=4) + START
    with Link(free_port("127.0.0.1")) as link:
        _, second = linked(two, link, LONG | {"signs": False})
        link.cut()
        assert second.wait() == 1
    failure = second.record().failure
    assert failure is not None
    assert failure.reason is Reason.PEER_LOST
    assert "has not answered for" in failure.message


def test_a_request_is_made_several_times_before_node_0_counts_as_lost() -> None:
    assert peers.HOLD_SECONDS < peers.ANSWER_SECONDS
    assert peers.ANSWER_SECONDS * 5 < peers.LOST_SECONDS
    assert peers.TELL_TRY_SECONDS * 3 < peers.TELL_SECONDS


def test_a_node_that_is_lost_is_noticed_by_the_others(two: Launches) -> None:
    two.start_code = QUICK.format(lost=4) + START
    first, second = two.start(plan=LONG | {"signs": False})
    until(lambda: (seen := first.progress()) and (seen.step or 0) >= 2)
    first.process.kill()
    assert second.wait() == 1
    failure = second.record().failure
    assert failure is not None
    assert failure.reason is Reason.PEER_LOST


def test_checkpoint_one_node_cannot_place_is_given_up(two: Launches) -> None:
    """A checkpoint that one node cannot place is given up, and training goes on."""
    two.start_code = FULL_AT_FIRST
    first, second = two.start(plan={"steps": 6, "save_every": 2, "wait_sealed": True})
    seen = until(lambda: (now := first.progress()) and now.checkpoint and now)
    metrics = first.get("/metrics").decode()
    assert [first.wait(), second.wait()] == [0, 0]
    assert seen.checkpoint.step in (4, 6)
    assert 'finetune_checkpoint_failures_total{reason="volume_full"} 1.0' in metrics
    record = first.record()
    assert any("checkpoint 2 was not saved (volume_full)" in message for message in record.messages)
    assert "not sealed GET /rank/checkpoint/2: 404" in first.text()
    attempt = two.layout.run.attempt(1)
    assert sorted(folder.name for folder in attempt.checkpoints.iterdir()) == ["checkpoint-4", "checkpoint-6"]


FULL_AT_FIRST = """
import errno, os, sys
from finetune_trainer.launch.node_run import main
real, left = os.rename, 1 if os.environ["JOB_COMPLETION_INDEX"] == "1" else 0
def rename(source, target):
    global left
    if left and "checkpoint-2.partial" in str(target):
        left -= 1
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    real(source, target)
os.rename = rename
sys.exit(main((sys.argv[1],)))
"""


def test_user_settings_of_threads_and_interfaces_stay(launches: Launches, tmp_path: Path) -> None:
    script = tmp_path / "show.py"
    script.write_text(
        "import json, os\n"
        "from finetune_trainer.launch.rank_output import attach\n"
        "attach()\n"
        "names = ('OMP_NUM_THREADS', 'GLOO_SOCKET_IFNAME', 'HF_HUB_OFFLINE', 'TORCH_ELASTIC_SHUTDOWN_TIMEOUT')\n"
        "print(json.dumps({name: os.environ.get(name) for name in names}))\n"
    )
    launches.start_code = (
        f"from finetune_trainer.launch.node_run import main; raise SystemExit(main(({str(script)!r},)))"
    )
    launches.grace_period_seconds = 45
    (node,) = launches.start(env={"OMP_NUM_THREADS": "3", "GLOO_SOCKET_IFNAME": "net7", Env.NODE.value: "0"})
    assert node.wait() == 1  # it never reported
    shown = next(json.loads(line) for line in node.text().splitlines() if line.startswith('{"OMP'))
    assert shown == {
        "OMP_NUM_THREADS": "3",
        "GLOO_SOCKET_IFNAME": "net7",
        "HF_HUB_OFFLINE": "1",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "35",
    }
