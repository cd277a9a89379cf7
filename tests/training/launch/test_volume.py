"""A volume that can't be written to: for good it is said before anything else, for a while it is waited for."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_trainer.contract.records import Cause, Outcome, Reason
from tests.support.launched import Launches, until

POD_USER = 10001
AS_THE_PODS_USER = """
import os, sys
import concurrent.futures.thread, encodings.idna, psutil  # an interpreter below /root can be read only now
from finetune_trainer.launch.node_run import main
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(10001)
    os.setuid(10001)
sys.exit(main((sys.argv[1],)))
"""


@pytest.fixture
def closed_volume() -> Iterator[tuple[Launches, int]]:
    """Make a volume that user 10001 (this one, if not root) may not write to; not in pytest's folder, which is private."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        launches = Launches(Path(folder), start_code=AS_THE_PODS_USER)
        launches.prepare()
        if os.getuid() != 0:
            (launches.claim / launches.layout.job).chmod(0o555)
            yield launches, os.getuid()
            (launches.claim / launches.layout.job).chmod(0o755)
        else:
            home = launches.folder / f"{launches.uid}-1-0"
            home.mkdir()
            os.chown(home, POD_USER, POD_USER)
            yield launches, POD_USER
        launches.close()


def test_no_permission_on_the_volume(closed_volume: tuple[Launches, int]) -> None:
    launches, uid = closed_volume
    (node,) = launches.start()
    code = node.wait()
    record = node.record()
    assert code == 1
    assert record.outcome is Outcome.FAILED
    assert record.failure is not None
    assert (record.failure.reason, record.failure.cause) == (Reason.VOLUME_NOT_WRITABLE, Cause.USER)
    for part in (f"uid {uid}", "belongs to uid", "mode 0", "fsGroup: ", f"chown {uid}:"):
        assert part in record.failure.message


AWAY = """
import errno, os, sys
from finetune_trainer.launch import checkpoint_coordinator, node_run
from finetune_trainer.launch.node_run import main
node_run.VOLUME_LOOK_SECONDS = checkpoint_coordinator.MODEL_AGAIN_SECONDS = 0.1
node_run.VOLUME_SECONDS = float(os.environ.get("PATIENCE", "60"))
real, left = os.rename, {"new": int(os.environ["PROBES"]), "model": 2}
def rename(source, target):
    name = os.path.basename(target)
    if left.get(name, 0):
        left[name] -= 1
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(target))
    real(source, target)
os.rename = rename
sys.exit(main((sys.argv[1],)))
"""


def test_a_volume_that_is_read_only_for_a_while_costs_nothing(launches: Launches) -> None:
    """The volume is read-only when the attempt starts, and when the model is to be sealed."""
    launches.start_code = AWAY
    (node,) = launches.start(plan={"steps": 2}, env={"PROBES": "3"})
    assert node.wait() == 0, node.text()
    record = node.record()
    assert record.outcome is Outcome.SUCCEEDED
    messages = "\n".join(record.messages)
    assert "The attempt waits for its volume. The volume at " in messages
    assert "has become read-only" in messages
    assert "The model is trained, and can't be written to the volume now" in messages


def test_one_that_stays_so_ends_the_attempt_and_costs_no_crash(launches: Launches) -> None:
    launches.start_code = AWAY
    (node,) = launches.start(plan={"steps": 2}, env={"PROBES": "1000", "PATIENCE": "0"})
    assert node.wait() == 1
    failure = node.record().failure
    assert failure is not None
    assert (failure.reason, failure.cause) == (Reason.VOLUME_NOT_WRITABLE, Cause.VOLUME)


def test_asked_to_end_while_it_waits_for_its_volume(launches: Launches) -> None:
    launches.start_code = AWAY
    (node,) = launches.start(plan={"steps": 2}, env={"PROBES": "100000"})
    until(lambda: (seen := node.progress()) and seen.messages)
    node.process.send_signal(signal.SIGTERM)
    assert node.wait() == 143
    assert node.record().outcome is Outcome.STOPPED
