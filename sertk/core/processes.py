"""Processes that end with the one that began them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def tie(parent: int, worker: int = 0) -> None:
    """Lets this process end when the one that began it does, even where that was killed by `kill -9`.

    Only Linux has the means; elsewhere nothing happens.

    Args:
        parent: The process that began it. It may be gone already.
        worker: Its number among several, as loaders give it; nothing depends on it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
