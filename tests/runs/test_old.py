"""Folders of versions before seeds lived inside runs: refused where they hold the run asked for, else ignored."""

import json

import pytest
import yaml

from bnrepro.config import ConfigError
from bnrepro.config.compose import single
from bnrepro.runs.folder import RunFolder
from bnrepro.runs.run import check, run
from bnrepro.runs.sweep import check_all

# What one ModelConfig of both nets and one TrainConfig had beside today's settings:
MODEL = {
    **{"multiplier": 1.0, "stem": "small", "lrn": False, "separable": False, "per_activation": False},
    **{"init_scale": 1.0, "native": False},
}
TRAIN = {"compile": "auto", "drive": "auto"}


@pytest.fixture
def old():
    """old(cfg): the folder in which a version of old finished that run."""

    def make(cfg, state="finished", **overwritten):
        settings = cfg.resolved()
        del settings["train"]["engine"]
        settings["model"] |= MODEL
        settings["train"] |= TRAIN
        settings |= overwritten
        name = f"lr{cfg.optim.lr:g}-std0.1-b{cfg.data.batch_size}-n5-0a1b2c3d"
        folder = RunFolder(RunFolder.of(cfg).path.parent / name)
        folder.make()
        folder.config.write_text(yaml.safe_dump(settings, sort_keys=False))
        folder.status_file.write_text(json.dumps({"state": state, "provenance": {"commit": "1a2b3c"}}))
        return folder

    return make


@pytest.mark.parametrize(
    "settings",
    [["variant=bn"], ["train.examples=800", "eval.points=4"], ["optim.schedule=step", "optim.decay_steps=0"]],
)
def test_a_run_that_an_old_version_finished_is_refused_in_one_line_that_says_what_to_do(
    settings, config, quiet, old
):
    folder = old(cfg := config(*settings))
    for refused in (check, lambda cfg: run(cfg, quiet), lambda cfg: check_all([cfg])):
        with pytest.raises(ConfigError, match=r"scripts/collect\.py.*output=") as caught:
            refused(cfg)
        assert str(caught.value).startswith(str(folder)) and "\n" not in str(caught.value)
    assert not RunFolder.of(cfg).path.exists()


def test_a_sweep_looks_for_old_folders_of_every_run_before_the_first_starts(config, old):
    first, second = config("optim.lr=0.3"), config("optim.lr=0.4")
    old(second)
    with pytest.raises(ConfigError, match=r"lr0\.4-.*collect\.py"):
        check_all([first, second])


def test_an_old_folder_with_other_hyperparameters_or_unfinished_or_unreadable_is_ignored(config, quiet, old):
    cfg = config("train.steps=2", "eval.probe=false")
    old(cfg, optim=cfg.resolved()["optim"] | {"momentum": 0.9})
    check(cfg)
    old(cfg, state="interrupted")
    check(cfg)
    old(cfg).config.write_text("model: [")
    assert run(cfg, quiet) == "finished"


def test_an_old_folder_of_inception_is_known_too(tmp_path, old):
    net = ["variant=inception", "data=shapes", "data.num_classes=2", "model.multiplier=0.5"]
    cfg = single([*net, f"output={tmp_path}"])
    left = {
        "width": 100,
        "depth": 3,
        "ghost_size": 16,
        "r_max": 3.0,
        "d_max": 5.0,
        "noise": 0.0,
        "init_std": 0.1,
    }
    old(cfg, model=cfg.resolved()["model"] | left)
    with pytest.raises(ConfigError, match=r"collect\.py"):
        check(cfg)
