"""Runs that train together, and the list of the study."""

import os
import runpy
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bnrepro import machine
from bnrepro.config import Config, ConfigError, DataConfig, EvalConfig, MLPConfig, OptimConfig, TrainConfig
from bnrepro.config.address import packable
from bnrepro.config.compose import jobs, places, single
from bnrepro.config.size import GIB, memory
from bnrepro.data import DataError
from bnrepro.runs.folder import RunFolder
from bnrepro.runs.run import check, run, run_together
from bnrepro.runs.sweep import PACK, check_all, packs, unfinished

ROOT = Path(__file__).parents[2]
STUDY = runpy.run_path(str(ROOT / "scripts/study.py"))["STUDY"]


def mlp(output, lr=0.1, steps=20, seeds=2, engine="eager", **model):
    return Config(
        experiment="together",
        seeds=seeds,
        output=str(output),
        data=DataConfig(batch_size=20),
        model=MLPConfig(width=8, depth=2, **model),
        optim=OptimConfig(lr=lr),
        train=TrainConfig(steps=steps, device="cpu", engine=engine, workers=1, checkpoint_seconds=0),
        eval=EvalConfig(every=10),
    )


def table(cfg):
    return RunFolder.of(cfg).table.read_bytes()


@pytest.mark.parametrize("engine", ["eager", "xla"])
def test_runs_that_train_together_leave_what_each_would_leave_alone(tmp_path, engine, quiet):
    rates = (0.1, 1.0)
    together = [mlp(tmp_path / "a", lr, engine=engine) for lr in rates]
    assert run_together(together, quiet) == ["finished", "finished"]
    for lr, cfg in zip(rates, together, strict=True):
        alone = mlp(tmp_path / "b", lr, engine=engine)
        assert run(alone, quiet) == "finished"
        assert table(cfg) == table(alone)


def test_a_pack_that_stops_resumes_and_a_finished_run_in_it_is_skipped(tmp_path, quiet, stop_at):
    runs = [mlp(tmp_path, lr) for lr in (0.1, 0.5, 1.0)]
    assert run(runs[0], quiet) == "finished"
    with pytest.raises(ArithmeticError):
        run_together(runs[1:], stop_at(10, ArithmeticError))
    assert [RunFolder.of(cfg).state([0, 1]) for cfg in runs] == ["finished", "failed", "failed"]
    assert RunFolder.of(runs[1]).traceback.is_file()
    assert run_together(runs, quiet) == ["skipped", "finished", "finished"]
    assert not RunFolder.of(runs[1]).traceback.exists()
    for cfg in runs[1:]:
        run(whole := replace(cfg, output=str(tmp_path / "whole")), quiet)
        assert table(cfg) == table(whole)


def test_runs_that_stand_at_different_steps_never_train_into_a_wrong_table(tmp_path, quiet, stop_at):
    stopped, fresh = mlp(tmp_path, 0.1), mlp(tmp_path, 0.5)
    with pytest.raises(KeyboardInterrupt):
        run(stopped, stop_at(10))
    assert run_together([fresh, stopped], quiet) == ["finished", "finished"]
    for cfg in (stopped, fresh):
        run(whole := replace(cfg, output=str(tmp_path / "whole")), quiet)
        assert table(cfg) == table(whole)


def test_runs_of_different_shapes_do_not_train_together(tmp_path, quiet):
    with pytest.raises(ValueError, match="different shapes"):
        run_together([mlp(tmp_path), mlp(tmp_path, norm="bn")], quiet)


def test_packs_hold_runs_of_equal_shape_that_stand_at_the_same_step(tmp_path, quiet, stop_at):
    runs = [mlp(tmp_path, lr) for lr in (0.1, 0.5, 1.0)] + [mlp(tmp_path, norm="bn")]
    assert [len(pack) for pack in packs(runs)] == [3, 1]
    with pytest.raises(KeyboardInterrupt):
        run(runs[1], stop_at(10))
    assert [[cfg.optim.lr for cfg in pack] for pack in packs(runs)] == [[0.1, 1.0], [0.5], [0.1]]


def test_a_pack_is_no_larger_than_its_bound_or_than_memory_and_a_mirrored_run_is_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(PACK, "mlp", 4)
    runs = [mlp(tmp_path, lr) for lr in (0.1, 0.2, 0.3)]
    assert [len(pack) for pack in packs(runs)] == [2, 1]
    for cfg in runs:
        cfg.train.memory = 1.0001 * memory(cfg) / GIB
    assert [len(pack) for pack in packs(runs)] == [1, 1, 1]
    for cfg in runs:
        cfg.train.memory = 0
        cfg.record.wandb = "offline"
    assert [len(pack) for pack in packs(runs)] == [1, 1, 1]


def test_what_is_unfinished_is_listed_once(tmp_path, quiet):
    runs = [mlp(tmp_path, lr) for lr in (0.1, 0.5, 0.1)]
    assert unfinished(runs) == runs[:2]
    run(runs[0], quiet)
    assert unfinished(runs) == [runs[1]]


def test_a_sweep_over_seeds_trains_one_run_with_all_of_them(tmp_path, quiet):
    sweep = [mlp(tmp_path, seeds=[0]), mlp(tmp_path, seeds=[0, 2]), mlp(tmp_path, seeds=[1])]
    for pack in packs(unfinished(sweep)):
        run_together(pack, quiet)
    assert unfinished(sweep) == []
    run(whole := mlp(tmp_path / "whole", seeds=3), quiet)
    assert table(sweep[0]) == table(whole)


def test_what_changes_a_shape_is_not_packable(tmp_path):
    base = packable(mlp(tmp_path))
    assert packable(mlp(tmp_path, lr=3.0, init_std=1.0, seeds=[7])) == base
    others = {"norm": "bn"}, {"steps": 30}, {"dropout": 0.1}, {"engine": "xla"}
    for other in others:
        assert packable(mlp(tmp_path, **other)) != base


@pytest.mark.parametrize("axis", ["model.stem=small,imagenet", "model.stem=imagenet data.size=128,0"])
def test_a_sweep_is_refused_before_its_first_run_where_a_net_does_not_fit_the_images(tmp_path, axis):
    """shapes are drawn with 64 x 64 pixels, too few for the stem of ImageNet."""
    settings = ["variant=inception", "data=shapes", "data.num_classes=2", f"output={tmp_path}"]
    first, second = jobs([*settings, *axis.split()])
    check_all([first])
    with pytest.raises(DataError, match=r"64x64 are too small for model\.stem=imagenet") as caught:
        check_all([first, second])
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("experiment", [e for part in STUDY.values() for e in part.experiments])
def test_an_experiment_of_the_study_states_its_seeds(experiment):
    images = experiment.endswith(("imagenet", "fast", "fig2", "ensemble", "inception", "limited", "inits"))
    cfg = single([f"experiment={experiment}", *(["variant=inception"] if images else [])])
    few = {"fig1_rates": 3, "rates_imagenet": 2, "rates_fig2": 2, "rates_limited": 2, "fig4_ensemble": 1}
    assert len(cfg.seeds) >= few.get(experiment, 3 if images else 5)
    assert cfg.experiment == experiment and cfg.data.name == ("tiny_imagenet" if images else "mnist")


def test_every_part_of_the_study_states_its_cost_and_none_trains_twice():
    assert all(part.minutes >= 1 for part in STUDY.values())
    experiments = [e for part in STUDY.values() for e in part.experiments]
    assert len(set(experiments)) == len(experiments)


def test_the_places_of_an_experiment_are_those_of_its_own_sweep(tmp_path):
    found = places("fig1_mnist", tmp_path)
    assert found == [
        RunFolder.of(replace(cfg, output=str(tmp_path))).path for cfg in jobs(["experiment=fig1_mnist"])
    ]
    assert places("scratch", tmp_path) == [tmp_path / "scratch"]


def test_on_windows_training_is_refused_in_one_line_that_says_where_it_works(tmp_path, quiet, monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    for refused in (check, lambda cfg: run(cfg, quiet)):
        with pytest.raises(ConfigError, match="WSL") as caught:
            refused(mlp(tmp_path))
        assert str(caught.value) == machine.supported() and "\n" not in machine.supported()
    assert not list(tmp_path.iterdir())


def test_a_signal_to_the_study_ends_what_it_runs_tidily_and_leaves_no_orphan(tmp_path):
    """The command it follows answers the signal itself, here by writing a file."""
    study = runpy.run_path(str(ROOT / "scripts/study.py"))
    answering = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path('told').touch(), sys.exit(3)))\n"
        "pathlib.Path('ready').touch()\n"
        "while True: signal.pause()\n"
    )
    follow = study["follow"]
    follow.__globals__["ROOT"] = tmp_path
    before = {name: signal.getsignal(getattr(signal, name)) for name in machine.SIGNALS}

    def send():
        while not (tmp_path / "ready").exists():
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    try:
        machine.answer_signals()
        threading.Thread(target=send).start()
        with pytest.raises(machine.Stopped) as stop:
            follow([sys.executable, "-c", answering])
    finally:
        for name, old in before.items():
            signal.signal(getattr(signal, name), old)
    assert stop.value.status == 128 + signal.SIGTERM and (tmp_path / "told").exists()
