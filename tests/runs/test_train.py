"""The loop and the run: resumable to the bit, one process at a time, bad input refused."""

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic
import torch

from bnrepro.config import Config, ConfigError, EvalConfig, TrainConfig
from bnrepro.config.compose import jobs
from bnrepro.runs import run as module
from bnrepro.runs.folder import RunBusy, RunFolder
from bnrepro.runs.resume import jobs_of
from bnrepro.runs.run import run
from bnrepro.training.loop import evaluation_grid

ENGINES = ("eager", "xla")
TRAIN = (sys.executable, str(Path(__file__).parents[2] / "scripts" / "train.py"))


def test_the_grid_has_both_ends_and_is_dense_early():
    def grid(steps, **settings):
        return evaluation_grid(Config(train=TrainConfig(steps=steps), eval=EvalConfig(**settings)))

    assert grid(250, every=100) == [0, 1, 2, 5, 10, 20, 50, 100, 200, 250]
    assert grid(30, every=100, early=False) == [0, 30]
    assert grid(30, points=3, early=False) == [0, 10, 20, 30]
    assert grid(80, every=30, first=10, early=False) == [0, 10, 20, 30, 60, 80]


def test_a_run_writes_every_seed_at_every_grid_step_and_is_then_skipped(config, quiet):
    cfg = config("variant=bn")
    assert run(cfg, quiet) == "finished"
    rows = RunFolder.of(cfg).rows()
    assert [(r.step, r.seed) for r in rows if r.name == "test/accuracy"] == [
        (t, s) for t in evaluation_grid(cfg) for s in (0, 1)
    ]
    assert {r.name for r in rows if r.step == 40} > {
        "train/loss",
        "test/accuracy_population",
        "probe/hidden3/all/p85",
    }
    assert not any(r.name == "train/loss" for r in rows if r.step == 0)
    assert run(cfg, quiet) == "skipped"


def written(folder):
    return folder.table.read_bytes(), folder.histograms.read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """whole(cfg): table and histograms of the same run, never stopped; trained once for all tests."""
    tables, place = {}, tmp_path_factory.mktemp("whole")

    def table(cfg):
        key = cfg.train.engine
        if key not in tables:
            unbroken = replace(cfg, output=str(place / key))
            assert run(unbroken, lambda done, remark: None) == "finished"
            tables[key] = written(RunFolder.of(unbroken))
        return tables[key]

    return table


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("step", [0, 5, 20, 30])
def test_an_interrupted_run_resumes_and_ends_with_the_same_table_bit_for_bit(
    step, engine, config, quiet, stop_at, whole
):
    broken = config("variant=bn", f"train.engine={engine}")
    folder = RunFolder.of(broken)
    with pytest.raises(KeyboardInterrupt):
        run(broken, stop_at(step))
    assert folder.state(broken.seeds) == "interrupted" and folder.finished_seeds() == []
    assert max((row.step for row in folder.rows()), default=0) == step
    with folder.table.open("a") as file:
        file.write("0,40,test/acc")  # a row past the checkpoint, torn
    assert run(broken, quiet) == "finished"
    assert written(folder) == whole(broken)


def test_a_run_that_is_stopped_between_checkpoints_leaves_one(config, quiet, stop_at, whole):
    broken = config("variant=bn", "train.checkpoint_seconds=1000")
    folder = RunFolder.of(broken)
    with pytest.raises(KeyboardInterrupt):
        run(broken, stop_at(20))
    assert {job.step for job in jobs_of(broken)} == {20}
    assert run(broken, quiet) == "finished"
    assert written(folder) == whole(broken)


def test_a_run_without_a_checkpoint_starts_again(config, quiet, stop_at, whole):
    broken = config("variant=bn")
    folder = RunFolder.of(broken)
    with pytest.raises(KeyboardInterrupt):
        run(broken, stop_at(20))
    folder.checkpoint.unlink()
    assert run(broken, quiet) == "finished"
    assert written(folder) == whole(broken)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_folder_says_which_engine_trained_and_with_how_many_threads(engine, config, quiet):
    cfg = config(f"train.engine={engine}", "train.steps=1", "eval.probe=false")
    run(cfg, quiet)
    status = json.loads(RunFolder.of(cfg).status_file.read_text())
    assert status["provenance"]["engine"] == engine and status["seeds"] == [0, 1]
    assert status["provenance"]["threads"] == 1  # a net of dense layers, on any machine


def test_a_checkpoint_of_another_version_is_refused_in_one_line_that_names_it(config, quiet):
    folder = RunFolder.of(cfg := config())
    folder.make()
    torch.save({"version": 1}, folder.checkpoint)
    with pytest.raises(ConfigError, match=rf"^{folder.checkpoint} is of another version") as caught:
        run(cfg, quiet)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_process_resumes_and_ends_with_the_same_table_bit_for_bit(
    engine, config, quiet, tmp_path, small
):
    settings = [
        "variant=bn",
        "train.steps=600",
        "eval.every=100",
        "eval.early=false",
        f"train.engine={engine}",
    ]
    killed = config(*settings, place="killed")
    command = [*TRAIN, *small, *settings, f"output={killed.output}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    folder = RunFolder.of(killed)
    while not folder.checkpoint.exists() and process.poll() is None:
        pass
    process.kill()
    assert process.wait() == -signal.SIGKILL, "killed while at work"
    assert folder.checkpoint.exists()
    assert max(row.step for row in folder.rows()) < 600 and folder.state(killed.seeds) == "running"
    assert run(killed, quiet) == "finished"
    run(unbroken := replace(killed, output=str(tmp_path / "whole")), quiet)
    assert folder.table.read_bytes() == RunFolder.of(unbroken).table.read_bytes()


def test_a_second_process_on_one_run_is_refused(config, quiet):
    folder = RunFolder.of(cfg := config())
    folder.make()
    with folder.lock(), pytest.raises(RunBusy, match="another process"):
        run(cfg, quiet)


def test_a_failing_run_keeps_its_traceback_and_its_rows(config, quiet, monkeypatch):
    def fail(*_):
        raise RuntimeError("the machine caught fire")

    monkeypatch.setattr(module, "fit", fail)
    cfg = config()
    with pytest.raises(RuntimeError, match="fire"):
        run(cfg, quiet)
    folder = RunFolder.of(cfg)
    assert folder.state(cfg.seeds) == "failed" and "caught fire" in folder.traceback.read_text()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_that_cannot_be_written_is_refused(tmp_path, config, quiet):
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="output="):
        run(config(), quiet)


def test_an_output_folder_that_cannot_be_made_is_refused(tmp_path, config, quiet):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="output="):
        run(config(place="file"), quiet)


def test_the_program_refuses_with_one_line_and_status_2(tmp_path):
    answer = subprocess.run([*TRAIN, "optim.lr=-1", f"output={tmp_path}"], capture_output=True, text=True)
    assert answer.returncode == 2 and answer.stderr.count("\n") == 1 and "optim.lr=-1" in answer.stderr
    assert answer.stdout == "" and not list(tmp_path.iterdir())


def test_a_sweep_goes_on_after_a_failing_job_skips_finished_ones_and_says_so(tmp_path, small, capsys):
    sweep = [*small, "train.steps=5", f"output={tmp_path}", "seeds=1", "variant=baseline,bn"]
    folder = RunFolder.of(jobs(sweep)[0])
    folder.make()
    torch.save({"version": 1}, folder.checkpoint)
    assert synthetic.run_script("train.py", "-m", *sweep) == 1
    said = capsys.readouterr()
    assert "failed" in said.err and "of another version" in said.err and "finished" in said.out
    folder.checkpoint.unlink()
    script = [*TRAIN, "-m", *sweep, "hydra/launcher=joblib"]
    second = subprocess.run(script, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    assert "1 of them finished before" in second.stdout and "skipped" in second.stdout


def test_a_single_run_of_an_experiment_says_what_of_its_sweep_it_leaves_out(tmp_path, capsys):
    line = ["experiment=fig1_quick", "seeds=1", "train.steps=2", f"output={tmp_path}"]
    assert synthetic.run_script("train.py", *line) == 0
    assert "experiment=fig1_quick sweeps variant: this is one run of it" in capsys.readouterr().out
    assert synthetic.run_script("train.py", *line, "variant=bn") == 0
    assert "this is one run" not in capsys.readouterr().out


def test_a_sweep_with_one_job_that_cannot_be_trained_starts_none(tmp_path, capsys):
    assert synthetic.run_script("train.py", "-m", f"output={tmp_path}", "data.batch_size=16,100000") == 2
    said = capsys.readouterr().err
    assert "100000" in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_two_threads_are_not_used_where_one_process_a_core_is(config, quiet):
    run(config("train.steps=1"), quiet)
    assert torch.get_num_threads() == 1


def test_a_run_that_another_process_trains_is_left_to_it_and_looked_at_again(
    tmp_path, small, capsys, monkeypatch
):
    """The other process lets go, without having finished, when this one has nothing else to do."""
    sweep = [*small, "train.steps=5", f"output={tmp_path}", "seeds=1", "variant=baseline,bn"]
    first, second = (RunFolder.of(cfg) for cfg in jobs(sweep))
    first.make()
    (other := ExitStack()).enter_context(first.lock())
    states = []

    def let_go(folder):
        states.append((folder.path, second.state([0])))
        other.close()

    monkeypatch.setattr(RunFolder, "wait", let_go)
    assert synthetic.run_script("train.py", "-m", *sweep) == 0
    assert states == [(first.path, "finished")]
    assert first.state([0]) == second.state([0]) == "finished"
    assert "1 run is being trained by another process" in capsys.readouterr().out
