"""A background build of binaries and images, so that tests that need neither run meanwhile."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.cache import cache_folder
from tests.support.cluster.binaries import present
from tests.support.cluster.client import REPOSITORY
from tests.support.commands import CommandFailed
from tests.support.images import build, store


@dataclass(frozen=True)
class Preparation:
    """A process that builds. It ends with this one, and with everything that it has started."""

    process: subprocess.Popen[bytes]
    log: Path | None

    @classmethod
    def begin(cls, *, images: bool, log: str | None = "preparation", sockets: Sequence[Path] = ()) -> "Preparation":
        """Start to build the cluster's binaries, and where asked for the images too, unless they are built already.

        The output goes to the log file of this name, or to standard error. The images also go to the running
        containerds at these sockets.
        """
        # Its own process namespace: when the first process of it goes, all go, and their mounts with them.
        # And before the tests in the queue for the processor: those on a cluster wait for it, and are the longest. Where the
        # kernel shares the processor among sessions first, niceness counts within one alone, and a session has one of its own.
        of_session = 'echo -8 > /proc/self/autogroup; exec "$@"'
        first = [*(["sh", "-c", of_session, "sh"] if log is not None else []), "nice", "--adjustment=-8"]
        isolated = ["setpriv", "--pdeathsig", "SIGKILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]
        what = "all" if images else "binaries"
        program = [sys.executable, "-m", "tests.support.images", what, *map(str, sockets)]
        command = [*first, *isolated, "--mount-proc", *program]
        if log is None:
            return cls(subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=sys.stderr), None)
        file = cache_folder("logs") / f"{log}.log"
        with open(file, "wb") as out:
            process = subprocess.Popen(
                command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        return cls(process, file)

    def has_built(self, tier: str) -> bool:
        """Return whether the tests of this tier could begin without waiting; where the build failed, they begin and report that."""
        if self.process.poll() is not None:
            return True
        images = tier != "e2e" or store.sources() == build.sources_hash()
        try:
            return images and present().folder.exists()
        except CommandFailed:  # Go does not work: the process ends with the same error
            return False

    def wait(self) -> None:
        """Wait until everything is built and stored."""
        if self.process.wait():
            output = self.log.read_text()[-8000:] if self.log else "see above"
            raise RuntimeError(f"what the tests need could not be built: {output}")

    def end(self) -> None:
        """Stop building."""
        self.process.kill()
        self.process.wait()
