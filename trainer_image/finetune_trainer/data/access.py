"""Check of whether the pods' user may read a file or folder, and the message where it may not."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def refusal(path: Path, name: str) -> str | None:
    """Say why the file or folder cannot be read; None where it can be read, or does not exist. `name` is what messages call it."""
    for parent in reversed(path.parents):
        if parent.is_dir() and not os.access(parent, os.X_OK, effective_ids=True):
            closed = _pod_name(parent, path, name)
            return f"{name} cannot be reached: {_may_not('enter the folder', parent, closed)} Run `chmod o+x {closed}`."
    if not path.exists():
        return None
    wanted, way_out = (os.R_OK | os.X_OK, "o+rx") if path.is_dir() else (os.R_OK, "o+r")
    if os.access(path, wanted, effective_ids=True):
        return None
    return f"{_may_not('read', path, name)} Run `chmod {way_out} {name}` where it is stored."


def _may_not(action: str, path: Path, name: str) -> str:
    status = path.stat()
    return (
        f"The pods' user (uid {os.geteuid()}, gid {os.getegid()}) may not {action} {name}: it belongs to uid "
        f"{status.st_uid}, gid {status.st_gid}, mode {stat.S_IMODE(status.st_mode):04o}."
    )


def _pod_name(above: Path, path: Path, name: str) -> str:
    """Return the path in the pods of a folder above the file that they call `name`."""
    steps = len(path.parts) - len(above.parts)
    parents = Path(name).parents
    return str(parents[steps - 1]) if steps <= len(parents) else str(above)
