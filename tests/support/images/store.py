"""containerd's image store with the project's images in it, kept between runs: the pristine copy for every new node."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from tests.support.cache import cache_folder, size_bytes
from tests.support.cluster.manifests import containerd
from tests.support.commands import CommandFailed, output, run, wait_for
from tests.support.images.storage import Storage
from tests.support.images.transport import load

# One generation of the training image is 11 GB: as content and as an unpacked snapshot.
LIMIT_BYTES = 18_000_000_000
SOURCES = "sources"


def store_folder() -> Path:
    """Return the store's root. Copy it only while it is locked or nobody writes to it."""
    return cache_folder("nodes") / "containerd"


def sources() -> str | None:
    """Return the hash of the sources of the images in the store (`build.sources_hash`)."""
    return _held().get(SOURCES)


def update(storage: Storage, names: Sequence[str], made_from: str) -> None:
    """Bring the store up to date with the images in buildah's storage; no work where nothing has changed."""
    wanted = {name: sha256(storage.image(name).manifest).hexdigest() for name in names}
    held = _held()
    _stamp().unlink(missing_ok=True)
    if wanted != {name: digest for name, digest in held.items() if name != SOURCES}:
        _replace(storage, names)
    _stamp().write_text(json.dumps({**wanted, SOURCES: made_from}))


def _stamp() -> Path:
    return cache_folder("nodes") / "holds.json"


def _held() -> dict[str, str]:
    try:
        held: dict[str, str] = json.loads(_stamp().read_text())
    except FileNotFoundError:
        return {}
    return held


def _replace(storage: Storage, names: Sequence[str]) -> None:
    if store_folder().exists() and size_bytes(store_folder()) > LIMIT_BYTES:
        shutil.rmtree(store_folder())
    try:
        _fill(storage, names)
    except CommandFailed as error:
        # A run that was cut off while containerd unpacked can leave content whose snapshots are lost.
        print(f"the image store is damaged and is made anew: {error}", file=sys.stderr, flush=True)
        shutil.rmtree(store_folder())
        _fill(storage, names)


def _fill(storage: Storage, names: Sequence[str]) -> None:
    with _running_containerd() as ctr:
        for name in names:
            sent = load(storage, name, ctr)
            print(f"{name}: {sent / 1e6:.1f} MB loaded", file=sys.stderr, flush=True)
        # Content that no tag names any more is collected when the next image is removed.
        run(*ctr, "images", "tag", "--force", names[0], "localhost/garbage:1")
        run(*ctr, "images", "rm", "--sync", "localhost/garbage:1")


@contextmanager
def _running_containerd() -> Iterator[tuple[str, ...]]:
    """Run containerd on the store, without any network or kubelet; yield the command that talks to it."""
    state = Path("/run/finetune-images/containerd")
    state.mkdir(parents=True, exist_ok=True)
    config, socket, log = state / "config.toml", state / "containerd.sock", cache_folder("logs") / "image-store.log"
    config.write_text(containerd(store_folder(), state / "state", socket, state / "cni"))
    ctr = ("ctr", "--address", str(socket), "--namespace", "k8s.io")
    with open(log, "wb") as out, subprocess.Popen(["containerd", "-c", config], stdout=out, stderr=out) as process:
        try:
            wait_for("containerd of the image store", lambda: output(*ctr, "version"))
            yield ctr
        finally:
            process.terminate()
