"""What this machine offers: cores, and one way to use them all."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.context import BaseContext
from typing import Any


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end; it ends tidily, with exit status 128 + signum."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.status = 128 + signum


class WorkerLost(RuntimeError):
    """A process of a pool was killed, most often for lack of memory."""


_asked: list[int] = []  # the signal that asked this process to end
CORES = "BNREPRO_CORES"  # the environment variable that says how many cores this process may use
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2")  # Ctrl-C, and what schedulers and terminals send


def answer_signals(names: Iterable[str] = SIGNALS) -> None:
    """From now on the first of these signals raises Stopped in the main thread; a second ends the process at once.

    What was ignored before, as SIGHUP under nohup, stays so.
    """
    _asked.clear()

    def answer(signum: int, frame: object) -> None:
        if _asked:
            os._exit(128 + signum)  # forked workers die with it: see `_enter`
        _asked.append(signum)
        raise Stopped(signum)

    for name in names:
        number = getattr(signal, name, None)  # Windows lacks some
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, answer)


def stop_asked(error: BaseException | None = None) -> Stopped | None:
    """Whether a signal has asked this process to end, though `error` may be what a library made of Stopped.

    It comes at any moment, and libraries wrap what is raised inside them: Hydra while it composes, JAX while it
    compiles.
    """
    if isinstance(error, Stopped):
        return error
    return Stopped(_asked[0]) if _asked else None


def supported() -> str:
    """ "" where training works, else one line that says where it does."""
    if sys.platform == "win32":
        return "training needs Linux, macOS or WSL; tables, figures and claims work everywhere"
    given = os.environ.get(CORES, "")
    return f"{CORES}={given}: a number of cores, from 1 on" if given and not _positive(given) else ""


def _positive(text: str) -> bool:
    return text.isdecimal() and int(text) > 0


def one_of_many() -> bool:
    """Whether another Python process started this one, so that others like it use the cores as well."""
    return multiprocessing.parent_process() is not None


def cores(share: bool = True) -> int:
    """How many cores this process may use; with `share` 1 where it is one of many."""
    if share and one_of_many():
        return 1
    for name in (CORES, "SLURM_CPUS_PER_TASK"):  # a cluster that gives cores need not bind a process to them
        if _positive(given := os.environ.get(name, "")):
            return int(given)
    if sys.platform == "linux":  # macOS has no such call
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads() -> int:
    """For the operations of one step of one net: 1, or what OMP_NUM_THREADS says, up to all cores.

    Not all cores by themselves, as elsewhere in torch: sums of other threads end in other last bits, and a seed that is
    trained alone has to be what it is beside others, which have a core each.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores(), int(given)) if _positive(given) else 1


def can_fork() -> bool:
    """macOS's own libraries and JAX have threads that hang a forked process."""
    return sys.platform == "linux" and "jax" not in sys.modules


def pool(workers: int, setup: Callable[[], None] | None = None) -> Executor:
    """So many forked processes, which see all that this one has now; threads where fork is unsafe.

    Each runs `setup` first. All are forked inside this call, so call it before anybody starts a thread.
    """
    if not can_fork():
        return ThreadPoolExecutor(workers, initializer=setup or _nothing)
    forked = ProcessPoolExecutor(workers, _forks(), _enter, (setup or _nothing,))
    forked.submit(os.getpid).result()
    return forked


def _forks() -> BaseContext:
    """Forked processes that end when they are told to, though they ignore SIGTERM: see `_enter`.

    Else a pool that lost one of them waits for ever, at its end, for another that waits for the lost one.
    """
    from multiprocessing.context import ForkContext, ForkProcess  # Windows has neither

    class Worker(ForkProcess):
        def terminate(self) -> None:
            self.kill()

    class Forks(ForkContext):
        Process = Worker

    return Forks()


def results(jobs: list[Future]) -> list[Any]:
    """What jobs of a pool return, in order. Raises WorkerLost where one of its processes was killed."""
    try:
        return [job.result() for job in jobs]
    except BrokenExecutor as error:
        raise WorkerLost(
            "a worker process was killed, probably for lack of memory; the same command resumes"
        ) from error


def _nothing() -> None: ...


def _enter(setup: Callable[[], None]) -> None:
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # a bar's stand-ins may be locked for ever
    for name in SIGNALS:  # sent to all processes of a job: they are the parent's to answer
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    end_with_parent(signal.SIGKILL)
    setup()


def end_with_parent(signum: int) -> None:
    """On Linux: this process gets that signal when the one that started it is gone, so that no orphan outlives it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signum)  # PR_SET_PDEATHSIG
