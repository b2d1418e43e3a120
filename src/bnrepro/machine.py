"""What this machine offers: cores, and one way to use them all."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor


def supported() -> str:
    """ "" where training works, else one line that says where it does."""
    if sys.platform == "win32":
        return "training needs Linux, macOS or WSL; tables, figures and claims work everywhere"
    return ""


def one_of_many() -> bool:
    """Whether another Python process started this one, so that others like it use the cores as well."""
    return multiprocessing.parent_process() is not None


def cores(share: bool = True) -> int:
    """How many cores this process may use; with `share` 1 where it is one of many."""
    if share and one_of_many():
        return 1
    if sys.platform == "linux":  # macOS has no such call
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def can_fork() -> bool:
    """macOS's own libraries and JAX have threads that hang a forked process."""
    return sys.platform == "linux" and "jax" not in sys.modules


def pool(workers: int, setup: Callable[[], None] | None = None) -> Executor:
    """So many forked processes, which see all that this one has now; threads where fork is unsafe.

    Each runs `setup` first. All are forked inside this call, so call it before anybody starts a thread.
    """
    if not can_fork():
        return ThreadPoolExecutor(workers, initializer=setup or _nothing)
    context = multiprocessing.get_context("fork")
    forked = ProcessPoolExecutor(workers, context, _enter, (setup or _nothing,))
    forked.submit(os.getpid).result()
    return forked


def _nothing() -> None: ...


def _enter(setup: Callable[[], None]) -> None:
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # a bar's stand-ins may be locked for ever
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no orphan outlives a killed parent
    setup()
