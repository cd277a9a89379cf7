"""The build of binaries and images for test clusters: `python -m tests.support.images binaries|all [SOCKET ...]`.

Started by `background`, isolated. The images also go to the containerds at the sockets.
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.support import machine
from tests.support.cache import cache_folder, locked
from tests.support.cluster.binaries import binaries
from tests.support.images import build, store
from tests.support.images.storage import Storage
from tests.support.images.transport import load


def main(what: str, *sockets: str) -> None:
    """Build the binaries, and with `all` the images beside them; then put the images into the store."""
    if what == "binaries":
        machine.install(machine.FOR_CONTROL_PLANE)
        binaries()
        return
    machine.install(machine.FOR_CONTROL_PLANE | machine.FOR_NODES | machine.FOR_IMAGES)
    with ThreadPoolExecutor() as pool:
        programs = pool.submit(binaries)
        images(sockets)
        programs.result()


def images(sockets: Sequence[str]) -> None:
    """Bring the image store up to date with the sources."""
    with locked(cache_folder("images")):
        made_from = build.sources_hash()
        if store.sources() == made_from and not sockets:
            return
        storage = Storage.open()
        names = build.build(storage)
        store.update(storage, names, made_from)
        for socket in sockets:
            for name in names:
                load(storage, name, ("ctr", "--address", socket, "--namespace", "k8s.io"))


if __name__ == "__main__":
    main(*sys.argv[1:])
