"""A sweep on a Slurm cluster: each pack of runs is one job of an array, sent by submitit (the extra `slurm`).

A job that nears its time limit gets SIGUSR2: it saves its checkpoint and goes back into the queue. So does one that
is preempted and told so in time, by SIGTERM; scancel's SIGTERM ends it with its checkpoint saved. Jobs and the
process that sent them share the folder of results and nothing else.
"""

from __future__ import annotations

import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bnrepro import machine
from bnrepro.config import Config, ConfigError, SlurmConfig
from bnrepro.machine import WorkerLost
from bnrepro.runs.folder import RunFolder
from bnrepro.runs.sweep import label, train_pack
from bnrepro.training.engines.data_parallel import is_main, leave_process_group

SECONDS_BETWEEN_LOOKS = {"slurm": 10.0, "local": 0.5}  # at the states of all jobs: one call of sacct


class PackJob:
    """What a job does: train a pack from where it stands. submitit pickles it, and calls it once a task."""

    def __init__(self, configs: list[Config], command: list[str]) -> None:
        self.configs, self.command = configs, command  # the user's, not this process's: for provenance

    def __call__(self) -> str:
        requeue = signal.getsignal(signal.SIGUSR2)  # submitit's: it counts the time-outs
        sys.argv[:] = self.command
        if int(os.environ.get("SLURM_NTASKS", "1")) > 1:
            _join_tasks()
        machine.answer_signals()
        if "SLURM_JOB_ID" not in os.environ:  # a process of this machine, which Ctrl-C would reach twice
            os.setpgrp()
        if not is_main():  # they end when the first task has saved and left
            for name in machine.SIGNALS:
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        try:
            state = train_pack(self.configs)
            leave_process_group(together=True)
            return state
        except BaseException as error:
            stop = machine.stop_asked(error)
            back = stop and (stop.status == 128 + signal.SIGUSR2 or _preempted())
            if back and callable(requeue):
                requeue(signal.SIGUSR2, None)  # ends this process
            leave_process_group(together=False)
            if stop:
                raise SystemExit(stop.status) from error
            raise

    def checkpoint(self, *_: Any) -> Any:
        """What submitit puts back into the queue: the same job, which finds the checkpoint in the run's folder."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _preempted() -> bool:
    """Whether Slurm takes the node away for a more urgent job, and has given this one time to save (GraceTime).

    It sends SIGTERM, as scancel does; a job that ends by itself in that time has failed, and does not come back.
    """
    command = ["scontrol", "show", "job", os.environ.get("SLURM_JOB_ID", "")]
    try:
        said = subprocess.run(command, text=True, capture_output=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    found = re.search(r"\bPreemptTime=(\S+)", said)
    return found is not None and found[1] != "None"


def _join_tasks() -> None:
    """The tasks of this job train one run together, as torchrun's processes do."""
    from submitit.helpers import TorchDistributedEnvironment

    TorchDistributedEnvironment().export(set_cuda_visible_devices=False)


def check_slurm(settings: SlurmConfig) -> None:
    """Raises ConfigError, in one line, where no job can be sent or followed."""
    try:
        import submitit  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigError("hydra/launcher=slurm needs the extra: pip install 'bnrepro[slurm]'") from None
    for program in ("sbatch", "sacct") if settings.cluster == "slurm" else ():
        if not shutil.which(program):
            words = "start this on a login node of the cluster"
            raise ConfigError(f"hydra/launcher=slurm: no {program} here; {words}")


def train_on_slurm(
    packs: list[list[Config]], settings: SlurmConfig, command: list[str], say: Callable[[str], None]
) -> list[tuple[list[Config], Exception]]:
    """Send the packs as one array and wait: those that failed, each with its reason.

    A stop of this process (Ctrl-C) leaves the jobs to Slurm: the same command later waits for those that train.
    Raises ConfigError where Slurm takes no job.
    """
    import submitit

    there = settings.cluster == "slurm"
    folder = Path(packs[0][0].output).absolute() / "slurm"
    executor = submitit.AutoExecutor(folder, settings.cluster, slurm_max_num_timeout=settings.max_num_timeout)
    executor.update_parameters(**_parameters(settings))
    at_once = len(packs) if there else min(settings.array_parallelism, machine.cores())
    jobs: list[Any] = []
    failed: list[tuple[list[Config], Exception]] = []
    waiting: dict[int, Any] = {}
    try:
        while waiting or len(jobs) < len(packs):
            if room := min(at_once - len(waiting), len(packs) - len(jobs)):
                sent = _send(executor, packs[len(jobs) : len(jobs) + room], command)
                if there:
                    say(f"{counted(len(sent))} sent to Slurm as {_array(sent)}; logs: {folder}")
                elif not jobs:
                    say(f"{counted(len(packs))}, {at_once} at a time, here; logs: {folder}")
                waiting |= dict(enumerate(sent, len(jobs)))
                jobs += sent
            if there:
                jobs[0].watcher.update()
            for i in [i for i, job in waiting.items() if job.done()]:
                words, lost = _ended(waiting.pop(i), packs[i])
                say(f"{len(jobs) - len(waiting)}/{len(packs)} {label(packs[i])}: {words}")
                if lost:
                    failed.append((packs[i], WorkerLost(words)))
            time.sleep(SECONDS_BETWEEN_LOOKS[settings.cluster] if waiting else 0)
    except KeyboardInterrupt:
        if there and jobs:
            say(f"\nthe jobs go on without this process; to end them: scancel {_array(jobs)}")
        for job in waiting.values() if not there else ():
            job.cancel()
            job.wait()
        raise
    return failed


def counted(jobs: int) -> str:
    return "1 job" if jobs == 1 else f"{jobs} jobs"


def _send(executor: Any, packs: list[list[Config]], command: list[str]) -> list[Any]:
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        with executor.batch():
            return [executor.submit(PackJob(pack, command)) for pack in packs]
    except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
        said = [line for line in str(error).splitlines() if "error" in line] or [str(error)]
        raise ConfigError(
            f"hydra/launcher=slurm: Slurm takes no job: {' '.join(said[0].split())[:300]}"
        ) from error


def _array(jobs: list[Any]) -> str:
    return jobs[0].job_id.partition("_")[0]


def _parameters(settings: SlurmConfig) -> dict[str, Any]:
    """As submitit names them; what is not set is left to the cluster."""
    names = ("nodes", "tasks_per_node", "cpus_per_task", "mem_gb", "timeout_min")
    plain = {name: getattr(settings, name) for name in names}
    if settings.gpus_per_node:
        plain["gpus_per_node"] = settings.gpus_per_node
    names = ("partition", "account", "qos", "constraint", "array_parallelism", "signal_delay_s", "setup")
    own = {f"slurm_{name}": getattr(settings, name) for name in names if getattr(settings, name)}
    if settings.additional_parameters:
        own["slurm_additional_parameters"] = settings.additional
    # A task that fails takes the others of its job with it, also one that hangs.
    return {"name": "bnrepro", "slurm_srun_args": ["--kill-on-bad-exit=1"], **plain, **own}


def _ended(job: Any, pack: list[Config]) -> tuple[str, bool]:
    """What became of a job that has ended, in one line, and whether it failed.

    A job that found its runs with another process left them to it: that is no failure.
    """
    states = {RunFolder.of(cfg).state(cfg.seeds) for cfg in pack}
    if states == {"finished"}:
        return "finished", False
    words = f"{'/'.join(sorted(states))}, says Slurm: {job.state}"
    if job.paths.result_pickle.is_file():
        outcome, said = pickle.loads(job.paths.result_pickle.read_bytes())
        if outcome == "success":
            return "left to another process", False
        words = said.strip().splitlines()[-1]
    return f"{words[:200]}; see {job.paths.stderr}", True
