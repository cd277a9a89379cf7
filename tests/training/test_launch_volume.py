"""A volume that the pods' user can't write to: said before anything else, with what to set."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_trainer.config import Cause, Outcome, Reason
from tests.support.launched import Launches

POD_USER = 10001
AS_THE_PODS_USER = """
import os, sys
import concurrent.futures.thread, encodings.idna, psutil  # an interpreter below /root can be read only now
from finetune_trainer.launch.run import main
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(10001)
    os.setuid(10001)
sys.exit(main((sys.argv[1],)))
"""


@pytest.fixture
def closed_volume() -> Iterator[tuple[Launches, int]]:
    """A volume that user 10001 (this one, if not root) may not write to; not in pytest's folder, which is private."""
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
