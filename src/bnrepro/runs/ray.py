"""A sweep on a Ray cluster, or on the cores of one machine: each pack of runs is one task (the extra `ray`).

A task whose worker or node is killed starts again elsewhere and goes on from the checkpoint, which lies on storage that
all nodes share.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from bnrepro import machine
from bnrepro.config import Config, ConfigError, RayConfig
from bnrepro.config.refusal import one_line
from bnrepro.machine import WorkerLost
from bnrepro.runs.folder import RunFolder


def check_ray(settings: RayConfig) -> None:
    """Raises ConfigError, in one line, where no task can be sent."""
    try:
        import ray
    except ModuleNotFoundError:
        raise ConfigError("hydra/launcher=ray needs the extra: pip install 'bnrepro[ray]'") from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    host, _, port = settings.address.rpartition(":")
    try:
        if port.isdecimal():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(settings.address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        words = f"hydra.launcher.address={settings.address}: {one_line(error)[:150]}"
        raise ConfigError(
            f"{words}; start a cluster with `ray start --head`, or leave it at local"
        ) from error


def train_on_ray(
    packs: list[list[Config]], settings: RayConfig, command: list[str], say: Callable[[str], None]
) -> list[tuple[list[Config], Exception]]:
    """Send the packs, after `check_ray`, and wait: those that failed, each with its reason.

    A stop of this process (Ctrl-C) ends the tasks, each with its checkpoint saved.
    """
    import ray
    from ray.exceptions import RayError

    from bnrepro.runs.sweep import label

    limits = {"num_cpus": settings.cpus_per_task, "num_gpus": settings.gpus_per_task}
    # A worker or a node that dies is tried again; an exception of the training is not.
    task: Any = ray.remote(**limits, max_retries=settings.max_retries, retry_exceptions=False)(_train)
    where, cores, threads = os.getcwd(), settings.cpus_per_task, os.environ.get("OMP_NUM_THREADS")
    waiting = {task.remote(pack, command, where, cores, threads): pack for pack in packs}
    nodes = sum(node["Alive"] for node in ray.nodes())
    there = ray.cluster_resources().get("CPU", 0)
    say(
        f"{len(packs)} task{'s' * (len(packs) > 1)} sent to Ray: {nodes} node{'s' * (nodes > 1)}, {there:g} cores"
    )
    failed: list[tuple[list[Config], Exception]] = []
    try:
        while waiting:
            (done,), _ = ray.wait(list(waiting))
            pack = waiting.pop(done)
            try:
                words = ray.get(done)
            except RayError as error:
                words = f"failed: {_reason(error, settings)}"
                failed.append((pack, WorkerLost(words)))
            say(f"{len(packs) - len(waiting)}/{len(packs)} {label(pack)}: {words}")
    except KeyboardInterrupt:  # what a library may make of Stopped, which is one
        for each in waiting:
            ray.cancel(each)
        end = time.monotonic() + settings.stop_s  # Ray answers at once; the tasks have yet to save
        folders = [RunFolder.of(cfg) for pack in waiting.values() for cfg in pack]
        while any(folder.at_work() for folder in folders) and time.monotonic() < end:
            time.sleep(0.2)
        raise
    return failed


def _train(pack: list[Config], command: list[str], folder: str, cores: int, threads: str | None) -> str:
    """What a task does, in a process that Ray started, and which it interrupts when the sweep is stopped."""
    before = signal.getsignal(signal.SIGINT)
    machine.answer_signals(["SIGINT"])
    try:
        from bnrepro.runs.sweep import train_pack  # torch: seconds, in which an interrupt may come, too

        os.chdir(folder)
        os.environ[machine.CORES] = str(cores)
        if threads is None:  # Ray gives a task as many as it has cores; here they are the user's to say
            os.environ.pop("OMP_NUM_THREADS", None)
        else:
            os.environ["OMP_NUM_THREADS"] = threads
        sys.argv[:] = command  # the user's, not this process's: for provenance
        return train_pack(pack)
    finally:
        signal.signal(signal.SIGINT, before)


def _reason(error: Any, settings: RayConfig) -> str:
    from ray.exceptions import RayTaskError

    if isinstance(error, RayTaskError):
        return one_line(error.cause)
    return f"a worker or its node was lost more than {settings.max_retries} times; the same command resumes"
