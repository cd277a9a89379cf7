"""The image that stands in for the official Python one, made from the distribution's packages: no registry is asked.

Its name holds the content of this module, so that a change here makes a new one, and all that is built on it.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from tests.support.cache import cache_folder, content_hash
from tests.support.commands import output, run
from tests.support.images.storage import Storage

SUITE = "bookworm"
PYTHON = "python3.11"
PACKAGES = ("ca-certificates", "libgomp1", PYTHON, f"{PYTHON}-venv", "python3-pip")
WASTE = ("var/lib/apt/lists", "var/cache/apt", "usr/share/doc", "usr/share/man", "usr/share/locale")


def base_image(storage: Storage) -> str:
    """Return the stand-in for the official Python image: the same version and the same paths."""
    mirror = _mirror()
    name = f"localhost/python:{content_hash([Path(__file__)], mirror)}"
    if not storage.has(name):
        print(f"making the base image from {SUITE}'s packages", file=sys.stderr, flush=True)
        folder = Path(tempfile.mkdtemp(prefix="base-", dir=cache_folder("images")))
        try:
            _debootstrap(folder / "root", mirror)
            container = storage.buildah("from", "scratch")
            storage.buildah("add", "--quiet", container, folder / "root", "/")
            path = "PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
            storage.buildah("config", "--env", path, "--env", "LANG=C.UTF-8", "--cmd", "python3", container)
            storage.buildah("commit", "--quiet", "--rm", container, name)
        finally:
            shutil.rmtree(folder)
    return name


def _debootstrap(root: Path, mirror: str) -> None:
    run("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, root, mirror)
    for waste in WASTE:
        run("find", root / waste, "-mindepth", "1", "-delete")
    (root / "etc/apt/sources.list").write_text("")  # this machine's mirror is nobody else's business
    (root / f"usr/lib/{PYTHON}/EXTERNALLY-MANAGED").unlink()
    for name in ("python", "python3"):
        (root / "usr/local/bin" / name).symlink_to(f"/usr/bin/{PYTHON}")


def _mirror() -> str:
    """Return the mirror that this machine installs its own packages from, where it is a Debian; else the public one."""
    released = Path("/etc/os-release").read_text()
    if "ID=debian" in released.split() and shutil.which("apt-get"):
        listed = output("apt-get", "indextargets", "--format", "$(SITE)", f"Codename: {SUITE}")
        if listed:
            return listed.splitlines()[0]
    return "http://deb.debian.org/debian"
