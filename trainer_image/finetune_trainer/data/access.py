"""Whether the pods' user may read a file or folder, and what to say where it may not."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def refusal(path: Path, name: str) -> str | None:
    """Say why the file or folder cannot be read; None where it can, or is not there. `name` is what messages call it."""
    for above in reversed(path.parents):
        if above.is_dir() and not os.access(above, os.X_OK, effective_ids=True):
            closed = _pod_name(above, path, name)
            return f"{name} cannot be reached: {_may_not('enter the folder', above, closed)} Run `chmod o+x {closed}`."
    if not path.exists():
        return None
    wanted, way_out = (os.R_OK | os.X_OK, "o+rx") if path.is_dir() else (os.R_OK, "o+r")
    if os.access(path, wanted, effective_ids=True):
        return None
    return f"{_may_not('read', path, name)} Run `chmod {way_out} {name}` where it is stored."


def _may_not(what: str, path: Path, name: str) -> str:
    status = path.stat()
    return (
        f"The pods' user (uid {os.geteuid()}, gid {os.getegid()}) may not {what} {name}: it belongs to uid "
        f"{status.st_uid}, gid {status.st_gid}, mode {stat.S_IMODE(status.st_mode):04o}."
    )


def _pod_name(above: Path, path: Path, name: str) -> str:
    """Return what the pods call a folder above a file that they call `name`."""
    steps = len(path.parts) - len(above.parts)
    parents = Path(name).parents
    return str(parents[steps - 1]) if steps <= len(parents) else str(above)
