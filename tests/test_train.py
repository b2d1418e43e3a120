"""The loop and the run folder: resumable to the bit, one process at a time, bad input refused."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bnrepro import run as module
from bnrepro.address import address
from bnrepro.composed import jobs, single
from bnrepro.config import ConfigError, EvalConfig
from bnrepro.data import DataError
from bnrepro.record import RunBusy, RunLock, read_table
from bnrepro.run import run, state_of
from bnrepro.train import evaluation_grid

SMALL = [
    "model.width=8",
    "data.batch_size=20",
    "train.steps=40",
    "eval.every=10",
    "train.compile=off",
    "seeds=2",
]


def quiet(step, remark):
    pass


def config(tmp_path, *overrides):
    return single([*SMALL, f"output={tmp_path}", "train.workers=1", "train.checkpoint_seconds=0", *overrides])


def test_the_grid_has_both_ends_and_is_dense_early():
    assert evaluation_grid(EvalConfig(every=100), 250) == [0, 1, 2, 5, 10, 20, 50, 100, 200, 250]
    assert evaluation_grid(EvalConfig(every=100, early=False), 30) == [0, 30]


def test_a_run_writes_every_seed_at_every_grid_step_and_is_then_skipped(tmp_path):
    cfg = config(tmp_path, "variant=bn")
    assert run(cfg, quiet) == "finished"
    rows = read_table(tmp_path / address(cfg) / "table.csv")
    steps = evaluation_grid(cfg.eval, 40)
    assert [(r.step, r.seed) for r in rows if r.name == "test/accuracy"] == [
        (t, s) for t in steps for s in (0, 1)
    ]
    assert {r.name for r in rows if r.step == 40} > {
        "train/loss",
        "test/accuracy_population",
        "probe/hidden3/all/p85",
    }
    assert not any(r.name == "train/loss" for r in rows if r.step == 0)
    assert run(cfg, quiet) == "skipped"


def test_a_run_in_company_has_the_same_numbers_as_alone(tmp_path):
    both, one = config(tmp_path / "a"), config(tmp_path / "b", "seeds=[1]")
    run(both, quiet)
    run(one, quiet)
    rows = [read_table(Path(c.output) / address(c) / "table.csv") for c in (both, one)]
    assert [r for r in rows[0] if r.seed == 1] == rows[1]


@pytest.mark.parametrize("drive", ["sequential", "stacked"])
def test_an_interrupted_run_resumes_and_ends_with_the_same_table_bit_for_bit(drive, tmp_path):
    settings = ["variant=bn", f"train.drive={drive}"]
    whole, broken = config(tmp_path / "whole", *settings), config(tmp_path / "broken", *settings)
    run(whole, quiet)

    def stop_at_20(step, remark):
        if step == 20:
            raise KeyboardInterrupt

    folder = tmp_path / "broken" / address(broken)
    with pytest.raises(KeyboardInterrupt):
        run(broken, stop_at_20)
    assert state_of(folder) == "interrupted" and max(r.step for r in read_table(folder / "table.csv")) == 20
    with (folder / "table.csv").open("a") as file:
        file.write("0,30,test/acc")  # a row past the checkpoint, torn
    assert run(broken, quiet) == "finished"
    assert (folder / "table.csv").read_bytes() == (
        tmp_path / "whole" / address(whole) / "table.csv"
    ).read_bytes()


def command(*overrides):
    script = Path(__file__).parent.parent / "scripts" / "train.py"
    return [
        sys.executable,
        str(script),
        *SMALL,
        "train.steps=4000",
        "eval.every=100",
        "variant=bn",
        *overrides,
    ]


def test_a_killed_process_resumes_and_ends_with_the_same_table_bit_for_bit(tmp_path):
    settings = ["train.checkpoint_seconds=0", "train.workers=2", "train.steps=600", "eval.early=false"]
    process = subprocess.Popen(command(*settings, f"output={tmp_path}/killed"), stdout=subprocess.DEVNULL)
    checkpoint = None
    while checkpoint is None and process.poll() is None:
        checkpoint = next((tmp_path / "killed").glob("**/checkpoint.pt"), None)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "killed while at work"
    assert checkpoint is not None
    seen = max(r.step for r in read_table(checkpoint.parent / "table.csv"))
    assert seen < 600 and state_of(checkpoint.parent) == "running"
    subprocess.run(command(*settings, f"output={tmp_path}/killed"), check=True, stdout=subprocess.DEVNULL)
    subprocess.run(command(*settings, f"output={tmp_path}/whole"), check=True, stdout=subprocess.DEVNULL)
    whole = next((tmp_path / "whole").glob("**/table.csv"))
    assert (checkpoint.parent / "table.csv").read_bytes() == whole.read_bytes()


def test_a_second_process_on_one_run_is_refused(tmp_path):
    cfg = config(tmp_path)
    with RunLock(tmp_path / address(cfg)), pytest.raises(RunBusy, match="another process"):
        run(cfg, quiet)


def test_a_failing_run_keeps_its_traceback_and_its_rows(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("the machine caught fire")

    monkeypatch.setattr(module, "fit", fail)
    cfg = config(tmp_path)
    with pytest.raises(RuntimeError, match="fire"):
        run(cfg, quiet)
    folder = tmp_path / address(cfg)
    assert state_of(folder) == "failed" and "caught fire" in (folder / "traceback.txt").read_text()


BAD = {
    "optim.lrr=1": "optim.lrr: no such setting.*optim.lr",
    "variant=bnn": "variant=bnn: no such variant.*did you mean bn.*baseline",
    "data=mnst": "data=mnst: no such data.*mnist",
    "data.batch_size=0": "batch_size=0",
    "data.batch_size=-60": "batch_size=-60",
    "data.batch_size=4001": "batch_size=4001.*4000",
    "variant=bn data.batch_size=1": "at least 2 examples",
    "optim.lr=-0.1": "optim.lr=-0.1",
    "optim.lr=nan": "optim.lr=nan",
    "optim.lr=fast": "optim.lr=fast",
    "seeds=[1,2,1]": r"\[1\] appear twice",
    "seeds=0": "seeds=0",
    "model.activation=sigmod": "did you mean sigmoid",
    "model.dropout=1": "model.dropout=1",
    "train.device=tpu": "train.device=tpu",
    "train.device=cuda": "no CUDA device",
    "seeds=100000": "at most 10,000",
    "regime=../x": "regime",
    "variant=../x": "variant",
}


@pytest.mark.parametrize("overrides", BAD)
@pytest.mark.skipif("torch.cuda.is_available()", reason="here train.device=cuda is good input")
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(overrides, tmp_path):
    with pytest.raises((ConfigError, DataError), match=BAD[overrides]) as caught:
        run(single([*overrides.split(), f"output={tmp_path}"]), quiet)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="output="):
        run(config(tmp_path), quiet)


def test_an_output_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="output="):
        run(config(tmp_path / "file"), quiet)


def test_the_program_refuses_with_one_line_and_status_2(tmp_path):
    answer = subprocess.run(command("optim.lr=-1", f"output={tmp_path}"), capture_output=True, text=True)
    assert answer.returncode == 2 and answer.stderr.count("\n") == 1 and "optim.lr=-1" in answer.stderr
    assert answer.stdout == "" and not list(tmp_path.iterdir())


def test_a_sweep_has_one_address_per_combination_and_the_command_line_goes_before_the_file():
    configs = jobs(
        ["experiment=fig1_mnist", "optim.lr=0.1,0.5,2", "data.batch_size=16,60", "variant=baseline,bn"]
    )
    assert len({address(c) for c in configs}) == len(configs) == 12
    assert {(c.variant, c.regime) for c in jobs(["experiment=fig1_mnist"])} == {
        (arm, regime) for arm in ("baseline", "bn") for regime in ("paper_like", "tuned")
    }


def test_an_address_ignores_where_and_how_a_run_is_made():
    here = single(["variant=bn"])
    there = single(["variant=bn", "output=elsewhere", "train.compile=off", "record=wandb", "train.workers=1"])
    assert address(here) == address(there) != address(single(["variant=bn", "optim.lr=0.2"]))


def test_a_sweep_goes_on_after_a_failing_job_skips_finished_ones_and_says_so(tmp_path):
    sweep = [
        *SMALL,
        "train.steps=5",
        f"output={tmp_path}",
        "seeds=1",
        "variant=baseline,bn",
        "train.workers=1",
    ]
    baseline = tmp_path / address(jobs(sweep)[0])
    baseline.mkdir(parents=True)
    (baseline / "table.csv").write_text("not a table\n")
    script = [sys.executable, str(Path(__file__).parent.parent / "scripts" / "train.py"), "-m", *sweep]
    first = subprocess.run(script, capture_output=True, text=True)
    assert first.returncode == 1 and (baseline / "traceback.txt").exists()
    assert "failed" in first.stdout and "finished" in first.stdout
    (baseline / "table.csv").unlink()
    second = subprocess.run([*script, "hydra/launcher=joblib"], capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    assert "1 of them finished before" in second.stdout and "skipped" in second.stdout


def test_a_sweep_with_one_job_that_cannot_be_trained_starts_none(tmp_path):
    script = str(Path(__file__).parent.parent / "scripts" / "train.py")
    sweep = [sys.executable, script, "-m", f"output={tmp_path}", "data.batch_size=16,100000"]
    answer = subprocess.run(sweep, capture_output=True, text=True)
    assert answer.returncode == 2 and "100000" in answer.stderr and answer.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_two_threads_are_not_used_where_one_process_a_core_is(tmp_path):
    run(config(tmp_path), quiet)
    assert torch.get_num_threads() == 1
