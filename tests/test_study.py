"""Runs that train together, and the list of the study."""

import runpy
from pathlib import Path

import pytest

from bnrepro.address import packable
from bnrepro.composed import single
from bnrepro.config import Config, DataConfig, EvalConfig, ModelConfig, OptimConfig, TrainConfig
from bnrepro.run import PACK, folder_of, packs, run, run_together, state_of

ROOT = Path(__file__).parents[1]
STUDY = runpy.run_path(str(ROOT / "scripts/study.py"))


def config(output, lr=0.1, steps=20, **model):
    return Config(
        experiment="together",
        seeds=[0, 1],
        output=str(output),
        data=DataConfig(batch_size=20),
        model=ModelConfig(width=8, depth=2, **model),
        optim=OptimConfig(lr=lr),
        train=TrainConfig(steps=steps, device="cpu", compile="off", checkpoint_seconds=0),
        eval=EvalConfig(every=10),
    )


def silent(done, remark):
    pass


class Killed(Exception):
    pass


def test_runs_that_train_together_leave_what_each_would_leave_alone(tmp_path):
    rates = (0.1, 1.0)
    assert run_together([config(tmp_path / "a", lr) for lr in rates], silent) == ["finished", "finished"]
    for lr in rates:
        assert run(config(tmp_path / "b", lr), silent) == "finished"
        together, alone = (folder_of(config(tmp_path / part, lr)) for part in "ab")
        assert (together / "table.csv").read_bytes() == (alone / "table.csv").read_bytes()


def test_a_pack_that_stops_resumes_and_a_finished_run_in_it_is_skipped(tmp_path):
    runs = [config(tmp_path, lr) for lr in (0.1, 0.5, 1.0)]
    assert run(runs[0], silent) == "finished"

    def stop_at_10(done, remark):
        if done == 10:
            raise Killed

    with pytest.raises(Killed):
        run_together(runs[1:], stop_at_10)
    assert [state_of(folder_of(cfg)) for cfg in runs] == ["finished", "failed", "failed"]
    assert (folder_of(runs[1]) / "traceback.txt").is_file()
    assert run_together(runs, silent) == ["skipped", "finished", "finished"]
    for lr in (0.5, 1.0):
        run(config(tmp_path / "whole", lr), silent)
        parts = [folder_of(config(place, lr)) / "table.csv" for place in (tmp_path, tmp_path / "whole")]
        assert parts[0].read_bytes() == parts[1].read_bytes()


def test_packs_hold_runs_of_equal_shape_that_stand_at_the_same_step(tmp_path):
    runs = [config(tmp_path, lr) for lr in (0.1, 0.5, 1.0)] + [config(tmp_path, norm="bn")]
    assert [len(pack) for pack in packs(runs)] == [3, 1]
    run(runs[1], silent)
    assert sorted(len(pack) for pack in packs(runs)) == [1, 1, 2]


def test_a_pack_is_no_larger_than_its_bound(tmp_path, monkeypatch):
    monkeypatch.setitem(PACK, "mlp", 4)
    assert [len(pack) for pack in packs([config(tmp_path, lr) for lr in (0.1, 0.2, 0.3)])] == [2, 1]


def test_what_changes_a_shape_is_not_packable(tmp_path):
    base = packable(config(tmp_path))
    assert packable(config(tmp_path, lr=3.0, init_std=1.0)) == base
    for other in (config(tmp_path, norm="bn"), config(tmp_path, steps=30), config(tmp_path, dropout=0.1)):
        assert packable(other) != base


@pytest.mark.parametrize("experiment", [name for names in STUDY["STUDY"].values() for name in names])
def test_an_experiment_of_the_study_states_its_cost_and_its_seeds(experiment):
    assert STUDY["minutes"](experiment) >= 1
    images = experiment.endswith(("imagenet", "ensemble"))
    cfg = single([f"experiment={experiment}", *(["variant=inception"] if images else [])])
    few = {"sensitivity_mnist": 4, "rates_imagenet": 2, "ablation_imagenet": 2, "fig4_ensemble": 1}
    assert len(cfg.seeds) >= few.get(experiment, 3 if images else 5)
    assert cfg.experiment == experiment and cfg.data.name == ("tiny_imagenet" if images else "mnist")
