"""Sweeps sent to Ray, without one: tasks are called here. With a cluster: tests/clusters/ray_trial.py."""

import os
import subprocess
import sys

import pytest
from ray.exceptions import RayTaskError, WorkerCrashedError

from bnrepro.config import ConfigError, RayConfig
from bnrepro.config.compose import launcher_settings
from bnrepro.machine import CORES
from bnrepro.runs import ray as module
from bnrepro.runs.folder import RunFolder
from bnrepro.runs.ray import check_ray


def test_rays_settings_are_plain_ones_and_wrong_ones_are_refused_in_one_line():
    settings = launcher_settings(["hydra/launcher=ray", "hydra.launcher.address=auto", "optim.lr=1,2"])
    assert isinstance(settings, RayConfig) and settings.address == "auto" and settings.max_retries > 0
    for wrong in ("cpus_per_task=0", "max_retries=-1", "stop_s=0", "cpus=2", "partition=gpu"):
        with pytest.raises(ConfigError, match=wrong.partition("=")[0]) as refused:
            launcher_settings(["hydra/launcher=ray", f"hydra.launcher.{wrong}"])
        assert "\n" not in str(refused.value)


def test_without_ray_one_line_says_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'bnrepro\[ray\]'"):
        check_ray(RayConfig())


@pytest.mark.parametrize("address", ["auto", "nonsense", "127.0.0.1:1", "127.0.0.1:99999"])
def test_a_cluster_that_is_not_there_is_said_in_one_line(address: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ConfigError, match=r"hydra\.launcher\.address") as refused:
        check_ray(RayConfig(address=address))
    assert "\n" not in str(refused.value)


def test_a_task_trains_where_the_sweep_was_started_and_its_run_names_the_users_command(
    config, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "argv", ["default_worker.py"])
    monkeypatch.setenv(CORES, "7")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # as Ray does, for a task of 7 cores
    cfg = config(place="here")
    assert module._train([cfg], ["scripts/train.py", "-m", "seeds=2"], str(tmp_path), 1, None) == "finished"
    assert RunFolder.of(cfg).status()["provenance"]["command"] == "python scripts/train.py -m seeds=2"
    assert module.machine.cores() == module.machine.threads() == 1 and "OMP_NUM_THREADS" not in os.environ


def test_what_ray_must_load_before_it_can_interrupt_a_task_is_light():
    code = "import sys, bnrepro.runs.ray; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_task_that_fails_says_why_and_one_that_is_lost_says_how_often():
    error = RayTaskError("task", "Traceback ...", OSError("disk full"))
    assert module._reason(error, RayConfig()) == "disk full"
    assert "lost more than 3 times" in module._reason(WorkerCrashedError(), RayConfig())
