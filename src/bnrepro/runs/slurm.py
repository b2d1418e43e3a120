"""A sweep on a Slurm cluster: each pack of runs is one job of an array, sent by submitit (the extra `slurm`).

A job that nears its time limit, or is preempted, gets SIGUSR2: it saves its checkpoint and goes back into the
queue. scancel's SIGTERM ends it with its checkpoint saved. Jobs and the process that sent them share the folder
of results and nothing else.
"""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bnrepro import machine
from bnrepro.config import Config, ConfigError, SlurmConfig
from bnrepro.machine import Stopped, WorkerLost
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
        if not is_main():  # they end when the first task has saved and left
            for name in machine.SIGNALS:
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        try:
            state = train_pack(self.configs)
            leave_process_group(together=True)
            return state
        except BaseException as error:
            stop = machine.stop_asked(error)
            if stop and stop.status == 128 + signal.SIGUSR2 and callable(requeue):
                requeue(signal.SIGUSR2, None)  # ends this process
            leave_process_group(together=False)
            if stop:
                raise SystemExit(stop.status) from error
            raise

    def checkpoint(self, *_: Any) -> Any:
        """What submitit puts back into the queue: the same job, which finds the checkpoint in the run's folder."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _join_tasks() -> None:
    """The tasks of this job train one run together, as torchrun's processes do."""
    from submitit.helpers import TorchDistributedEnvironment

    TorchDistributedEnvironment().export(set_cuda_visible_devices=False)


def check_slurm(settings: SlurmConfig) -> None:
    """Raises ConfigError, in one line, where no job can be sent."""
    try:
        import submitit  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigError("hydra/launcher=slurm needs the extra: pip install 'bnrepro[slurm]'") from None
    if settings.cluster == "slurm" and not shutil.which("sbatch"):
        raise ConfigError("hydra/launcher=slurm: no sbatch here; start this on a login node of the cluster")


def train_on_slurm(
    packs: list[list[Config]], settings: SlurmConfig, command: list[str], say: Callable[[str], None]
) -> list[tuple[list[Config], Exception]]:
    """Send the packs as one array and wait: those that failed, each with its reason.

    A stop of this process (Ctrl-C) leaves the jobs to Slurm: the same command later waits for them.
    """
    import submitit

    folder = Path(packs[0][0].output).absolute() / "slurm"
    executor = submitit.AutoExecutor(folder, settings.cluster, slurm_max_num_timeout=settings.max_num_timeout)
    executor.update_parameters(**_parameters(settings))
    with executor.batch():
        jobs = [executor.submit(PackJob(pack, command)) for pack in packs]
    array = jobs[0].job_id.partition("_")[0]
    say(f"{len(jobs)} job{'s' * (len(jobs) > 1)} sent to Slurm as {array}; logs: {folder}")
    failed, waiting = [], dict(enumerate(jobs))
    try:
        while waiting:
            if settings.cluster == "slurm":
                jobs[0].watcher.update()
            for i in [i for i, job in waiting.items() if job.done()]:
                reason = _reason(waiting.pop(i), packs[i])
                done = len(jobs) - len(waiting)
                say(f"{done}/{len(jobs)} {label(packs[i])}: {reason or 'finished'}")
                if reason:
                    failed.append((packs[i], WorkerLost(reason)))
            time.sleep(SECONDS_BETWEEN_LOOKS[settings.cluster] if waiting else 0)
    except Stopped:
        say(f"\nthe jobs go on without this process; to end them: scancel {array}")
        raise
    return failed


def _parameters(settings: SlurmConfig) -> dict[str, Any]:
    """As submitit names them; what is not set is left to the cluster."""
    given = {key: value for key, value in asdict(settings).items() if value not in (None, 0, "", {})}
    for key in ("cluster", "max_num_timeout", "array_parallelism", "signal_delay_s", "partition", "account"):
        given.pop(key, None)
    for key in ("qos", "constraint", "setup", "additional_parameters"):
        if key in given:
            given[f"slurm_{key}"] = given.pop(key)
    for key in ("partition", "account", "array_parallelism", "signal_delay_s"):
        if value := getattr(settings, key):
            given[f"slurm_{key}"] = value
    # A task that fails takes the others of its job with it, also one that hangs.
    return given | {"name": "bnrepro", "slurm_srun_args": ["--kill-on-bad-exit=1"]}


def _reason(job: Any, pack: list[Config]) -> str:
    """Why a job that has ended did not finish its runs, in one line; "" if it did."""
    states = {RunFolder.of(cfg).state(cfg.seeds) for cfg in pack}
    if states == {"finished"}:
        return ""
    words = f"{'/'.join(sorted(states))}, says Slurm: {job.state}"
    if job.paths.result_pickle.is_file():
        outcome, said = pickle.loads(job.paths.result_pickle.read_bytes())
        words = said.strip().splitlines()[-1] if outcome == "error" else words
    return f"{words[:200]}; see {job.paths.stderr}"
