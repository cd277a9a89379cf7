"""A process that ends with its parent. Imports nothing slow: ranks use it."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends: ranks live in sessions of their own, out of reach."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
