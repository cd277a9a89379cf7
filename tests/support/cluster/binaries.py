"""The programs of a cluster, built from Go modules: no registry offers them ready-made."""

import io
import json
import os
import shutil
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from tests.support.cache import cache_folder, content_hash, keep_newest, locked
from tests.support.commands import output, run

SOURCES = Path(__file__).parent
KUBERNETES = "v1.34.4"
PAUSE_IMAGE = "docker.io/finetune/pause:1"
MODULES = ("kube", "dns", "pause")
# Nobody debugs these programs, and data for a debugger takes a twelfth of the time of a build.
FLAGS = ("-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false")
# Without these the server calls itself v0.0.0, and clients complain.
VERSION = "k8s.io/component-base/version"
LINKER = f"-s -w -X {VERSION}.gitVersion={KUBERNETES} -X {VERSION}.gitMajor=1 -X {VERSION}.gitMinor=34"


@dataclass(frozen=True)
class Binaries:
    """The programs, in one folder of the cache."""

    folder: Path

    @property
    def kube(self) -> Path:
        """etcd, the control plane, the node agents and kubectl: the first argument says which."""
        return self.folder / "kube"

    @property
    def kubectl(self) -> Path:
        """The client: the same file as `kube`, under its name."""
        return self.folder / "kubectl"

    @property
    def coredns(self) -> Path:
        """CoreDNS with the plugins that a cluster's names need."""
        return self.folder / "dns"

    @property
    def pause_archive(self) -> Path:
        """The image of the pods' sandboxes, as an archive that containerd imports."""
        return self.folder / "pause.tar"


@cache
def present() -> Binaries:
    """Return the folder of the programs of the present sources, built or not."""
    sources = [file for module in MODULES for file in (SOURCES / module).iterdir()]
    return Binaries(cache_folder("binaries") / content_hash(sources, output("go", "version"), LINKER, *FLAGS))


def binaries() -> Binaries:
    """Return the programs of the present sources, from the cache or built now (some minutes, once a machine)."""
    folder = present().folder
    home = folder.parent
    with locked(home):
        if not folder.exists():
            print("building the Kubernetes binaries: some minutes, once", file=sys.stderr, flush=True)
            building = Path(tempfile.mkdtemp(prefix=".building-", dir=home))
            try:
                _build(building)
                building.chmod(0o755)
                building.rename(folder)
            except BaseException:
                shutil.rmtree(building, ignore_errors=True)
                raise
        os.utime(folder)
        keep_newest(home, 2)
    return Binaries(folder)


def _build(folder: Path) -> None:
    env = {**os.environ, "CGO_ENABLED": "0"}
    for module in MODULES:
        run("go", "-C", SOURCES / module, "build", *FLAGS, "-ldflags", LINKER, "-o", folder / module, ".", env=env)
    (folder / "kubectl").symlink_to("kube")
    _write_image(folder / "pause", PAUSE_IMAGE, folder / "pause.tar")


def _write_image(program: Path, name: str, archive: Path) -> None:
    """Write an image of one static program, in docker's archive format."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as files:
        files.add(program, f"/{program.name}")
    digest = sha256(layer.getvalue()).hexdigest()
    config = {
        "architecture": output("go", "env", "GOARCH"),
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    members = {
        "config.json": json.dumps(config).encode(),
        "layer.tar": layer.getvalue(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    with tarfile.open(archive, "w") as out:
        for member, data in members.items():
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            out.addfile(entry, io.BytesIO(data))
