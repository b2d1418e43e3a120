"""The machine: cores, and processes that share the work."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import connection
from pathlib import Path

import pytest

from bnrepro import machine, progress

FORK = multiprocessing.get_context("fork")
seen = []


def test_cores_are_those_this_process_may_use_and_one_where_it_is_one_of_many(monkeypatch):
    assert machine.cores() == machine.cores(share=False) == len(os.sched_getaffinity(0))
    with FORK.Pool(1) as pool:
        assert pool.apply(machine.cores) == 1 and pool.apply(machine.cores, (False,)) == machine.cores()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(os, "sched_getaffinity")
    assert machine.cores() == os.cpu_count()


@pytest.mark.parametrize(
    ("said", "used"), [("1", 1), ("2", 2), ("1000", 3), ("", 1), ("0", 1), ("2,1", 1), (None, 1)]
)
def test_a_step_has_as_many_threads_as_omp_num_threads_says_and_never_more_than_there_are_cores(
    said, used, monkeypatch
):
    monkeypatch.setattr(machine, "cores", lambda: 3)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert machine.threads() == used


@pytest.mark.parametrize(("said", "used"), [("1", 1), ("3", 3), ("", None)])
def test_a_number_of_cores_may_be_given(said, used, monkeypatch):
    monkeypatch.setenv(machine.CORES, said)
    assert machine.supported() == "" and machine.cores() == (used or len(os.sched_getaffinity(0)))


@pytest.mark.parametrize("said", ["abc", "0", "-1", "1.5"])
def test_what_is_no_number_of_cores_is_refused(said, monkeypatch):
    monkeypatch.setenv(machine.CORES, said)
    assert machine.supported() == f"BNREPRO_CORES={said}: a number of cores, from 1 on"


def test_only_windows_is_not_supported(monkeypatch):
    assert machine.supported() == ""
    monkeypatch.setattr(sys, "platform", "win32")
    assert "Linux, macOS or WSL" in machine.supported() and "\n" not in machine.supported()


def note():
    seen.append("setup")


def state(_=None):
    return os.getpid(), list(seen), signal.getsignal(signal.SIGINT), sys.stdout is sys.__stdout__


def test_a_pool_is_forked_at_once_and_shares_what_was_there(forks, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "seen", ["before"])
    with machine.pool(2, note) as pool:
        seen.append("after")
        pid, known, on_interrupt, plain = pool.submit(state).result()
    assert pid != os.getpid() and known == ["before", "setup"]
    assert on_interrupt == signal.SIG_IGN and plain


@pytest.mark.parametrize("reason", ["macOS", "JAX is imported"])
def test_where_fork_is_unsafe_a_pool_has_threads(monkeypatch, reason):
    if reason == "macOS":
        monkeypatch.setattr(sys, "platform", "darwin")
    else:
        monkeypatch.setitem(sys.modules, "jax", object())
    with machine.pool(2) as pool:
        assert isinstance(pool, ThreadPoolExecutor) and pool.submit(threading.get_ident).result()


def lose_this_process():
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_pool_that_lost_a_worker_ends_the_others_though_they_ignore_sigterm(forks):
    pool = machine.pool(2)
    workers = list(pool._processes.values())  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(machine.WorkerLost, match="the same command resumes"):
        machine.results([pool.submit(lose_this_process)])
    try:
        for worker in workers:  # the pool's thread waits for them too, and one of two learns the exit code
            assert connection.wait([worker.sentinel], 60)
    finally:
        for worker in workers:
            worker.kill()
    pool.shutdown()


def own_pool(pids):
    pool = machine.pool(1)
    pids.put(pool.submit(os.getpid).result())
    time.sleep(60)


def test_a_pool_dies_with_a_killed_parent():
    pids = FORK.SimpleQueue()
    parent = FORK.Process(target=own_pool, args=(pids,))
    parent.start()
    worker = Path(f"/proc/{pids.get()}")
    parent.kill()
    parent.join()
    for _ in range(100):
        if not worker.exists() or "State:\tZ" in (worker / "status").read_text():
            return
        time.sleep(0.05)
    raise AssertionError("an orphan is left")


def test_progress_is_a_line_now_and_then_where_there_is_no_terminal(capsys, monkeypatch):
    with progress.progress("run", 3300, 5) as update:
        update(0, "resumed")
        update(1000, "")
        assert capsys.readouterr().out == "run: resumed\n"
        monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
        update(1000, "")
        update(3300, "")
    first, last = capsys.readouterr().out.splitlines()
    assert first == "run: step 1,000 of 3,300"
    assert last.startswith("run: step 3,300 of 3,300, ") and last.endswith(" steps/s x 5 seeds")
    with progress.counted("decoding a", 6, "images") as update:
        update(6, "")
    assert capsys.readouterr().out == "decoding a: 6 of 6 images, 0 s\n"


def test_progress_is_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with progress.progress("run", 2, 1) as update:
        update(0, "a remark")
        update(2, "")
    out = capsys.readouterr().out
    assert "run: a remark" in out and "100%" in out
