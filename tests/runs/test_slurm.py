"""Sweeps sent to a cluster, without one: jobs are processes of this machine. See tests/clusters/."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from submitit.core.utils import FailedJobError

from bnrepro.config import Config, ConfigError, SlurmConfig
from bnrepro.config.compose import jobs, launcher_settings
from bnrepro.machine import WorkerLost
from bnrepro.runs import slurm as module
from bnrepro.runs.folder import RunFolder
from bnrepro.runs.slurm import PackJob, check_slurm, train_on_slurm
from bnrepro.runs.sweep import packs


def test_a_clusters_settings_are_plain_ones_and_the_others_keep_their_defaults():
    settings = launcher_settings(["hydra/launcher=slurm", "optim.lr=1,2", "hydra.launcher.partition=gpu"])
    assert settings.partition == "gpu" and settings.max_num_timeout > 0 and settings.processes == 1
    asked = ["hydra/launcher=slurm", "hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=4"]
    assert launcher_settings(asked).processes == 8


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("hydra.launcher.nodes=0", "must be from 1"),
        ("hydra.launcher.nods=2", "nods"),
        ("hydra.launcher.timeout_min=soon", "timeout_min"),
        ("hydra.launcher.signal_delay_s=36000", "must be from 1 to 3600"),
        ("hydra.launcher.mem_gb=-1", "mem_gb"),
        ("hydra.launcher.partition=a,b", "one value for all jobs"),
        ("hydra.launcher.partion=cpu", r"did you mean hydra\.launcher\.partition"),
        ('hydra.launcher.additional_parameters=["n7"]', "name=value"),
    ],
)
def test_what_no_cluster_could_give_is_refused_in_one_line(setting: str, words: str):
    with pytest.raises(ConfigError, match=words) as refused:
        launcher_settings(["hydra/launcher=slurm", setting])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("many", ["nodes=2", "tasks_per_node=2"])
def test_on_this_machine_a_job_is_one_process(many: str):
    with pytest.raises(ConfigError, match="local: one node and one task"):
        launcher_settings(["hydra/launcher=slurm", "hydra.launcher.cluster=local", f"hydra.launcher.{many}"])


def test_without_slurm_or_without_submitit_one_line_says_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="no sbatch here"):
        check_slurm(SlurmConfig())
    check_slurm(SlurmConfig(cluster="local"))
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"pip install 'bnrepro\[slurm\]'"):
        check_slurm(SlurmConfig())


def test_what_is_not_set_is_left_to_the_cluster():
    given = module._parameters(SlurmConfig(account="group", setup=["module load cuda"]))
    assert given["slurm_account"] == "group" and given["slurm_setup"] == ["module load cuda"]
    assert not {"slurm_partition", "slurm_qos", "gpus_per_node", "cluster"} & set(given)
    assert {"mem_gb", "cpus_per_task", "timeout_min", "nodes", "slurm_signal_delay_s"} <= set(given)


def test_each_pack_is_a_job_and_one_that_fails_says_why_and_spares_the_others(
    small: tuple[str, ...], tmp_path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    sweep = [*small, "variant=baseline,bn", "optim.lr=0.1,0.2", f"output={tmp_path}"]
    configs = jobs(sweep)
    old = RunFolder.of(configs[0])
    old.make()
    torch.save({"version": -1}, old.checkpoint)
    said: list[str] = []
    todo = packs(configs)
    command = ["scripts/train.py", "-m", "variant=baseline,bn"]
    failed = train_on_slurm(todo, SlurmConfig(cluster="local", timeout_min=5), command, said.append)
    ((pack, error),) = failed
    assert pack == [configs[0]] and isinstance(error, WorkerLost) and "another version" in str(error)
    assert said[0].startswith(f"{len(todo)} jobs, ")
    assert sorted(line.split()[0] for line in said[1:]) == ["1/3", "2/3", "3/3"]
    states = [RunFolder.of(cfg).state(cfg.seeds) for cfg in configs]
    assert states == ["not started", "finished", "finished", "finished"]
    origin = RunFolder.of(configs[1]).status()["provenance"]
    assert origin["command"] == "python scripts/train.py -m variant=baseline,bn"


def test_a_job_that_found_its_runs_with_another_process_has_not_failed(
    small: tuple[str, ...], tmp_path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (cfg,) = jobs([*small, f"output={tmp_path}"])
    said: list[str] = []
    RunFolder.of(cfg).make()
    with RunFolder.of(cfg).lock():
        settings = SlurmConfig(cluster="local", timeout_min=5)
        assert train_on_slurm([[cfg]], settings, ["train.py"], said.append) == []
    assert said[-1].endswith("left to another process")


def test_a_cluster_that_takes_no_job_says_why_in_one_line():
    class Full:
        def batch(self):
            return nullcontext()

        def submit(self, job):
            raise FailedJobError("trace\nsbatch: error: invalid account 'x'\nmore")

    with pytest.raises(ConfigError, match=r"takes no job: sbatch: error: invalid account 'x'$"):
        module._send(Full(), [[]], ["train.py"])


def test_what_sbatch_knows_beside_the_settings_is_given_as_it_is():
    asked = ["hydra/launcher=slurm", 'hydra.launcher.additional_parameters=["nodelist=n7"]']
    assert module._parameters(launcher_settings(asked))["slurm_additional_parameters"] == {"nodelist": "n7"}


@pytest.fixture
def job(config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch):
    """job(what): a job whose training does `what`; signals and arguments are as before afterwards."""
    handlers = {name: signal.getsignal(getattr(signal, name)) for name in module.machine.SIGNALS}
    monkeypatch.setattr(sys, "argv", ["submitit"])

    def made(what: Callable[[], None]) -> PackJob:
        monkeypatch.setattr(module, "train_pack", lambda configs: what())
        return PackJob([config()], ["train.py", "-m"])

    yield made
    for name, handler in handlers.items():
        signal.signal(getattr(signal, name), handler)


def test_a_job_told_to_save_goes_back_into_the_queue_and_a_cancelled_one_does_not(job):
    requeued: list[int] = []
    signal.signal(signal.SIGUSR2, lambda signum, frame: requeued.append(signum))
    for name, queued in (("SIGUSR2", [signal.SIGUSR2]), ("SIGTERM", [])):
        signal.signal(signal.SIGUSR2, lambda signum, frame: requeued.append(signum))
        requeued.clear()
        number = getattr(signal, name)
        with pytest.raises(SystemExit) as ended:
            job(lambda number=number: os.kill(os.getpid(), number))()
        assert requeued == queued and ended.value.code == 128 + number


@pytest.mark.parametrize(("said", "back"), [("2026-01-02T03:04:05", True), ("None", False), (None, False)])
def test_a_job_that_slurm_asks_to_make_room_goes_back_into_the_queue(said, back, job, tmp_path, monkeypatch):
    if said:
        program = tmp_path / "scontrol"
        program.write_text(
            f"#!/bin/sh\necho JobId=$3 PreemptEligibleTime=2026-01-01T00:00:00 PreemptTime={said}\n"
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin" if said else str(tmp_path))
    requeued: list[int] = []
    signal.signal(signal.SIGUSR2, lambda signum, frame: requeued.append(signum))
    with pytest.raises(SystemExit):
        job(lambda: os.kill(os.getpid(), signal.SIGTERM))()
    assert requeued == [signal.SIGUSR2] * back


def test_a_job_that_fails_is_no_success_for_slurm(job):
    def fail() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        job(fail)()


def test_the_cores_of_a_job_are_those_slurm_gave_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert module.machine.cores() == 3
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "all")
    assert module.machine.cores() >= 1
