"""What a process asks of the system: to end with the one that began it, and to keep its memory."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


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


def keep_memory() -> None:
    """Lets this process, and those that it forks, keep the memory of freed tensors for the next ones.

    Every step of training frees the tensors of the step before and takes as much again. The allocator of glibc gives
    large ones back to the system in between, which then clears each page anew: up to a quarter of a step of `p1-ce`.
    What a process has at its peak it has until it ends. Only glibc has the means; elsewhere nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)  # no tensor has a mapping of its own, which would go with it
        mallopt(M_TRIM_THRESHOLD, -1)  # the end of the heap stays
