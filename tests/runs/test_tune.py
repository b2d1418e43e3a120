"""scripts/tune.py: looks at held-out images only, goes on where it stopped, refuses before anything is made."""

import runpy
import sys
from pathlib import Path

import pytest

from bnrepro.runs.folder import RunFolder

ROOT = Path(__file__).parents[2]
SMALL = (
    "variant=bn",
    "data.holdout=500",
    "train.steps=4",
    "eval.every=4",
    "eval.early=false",
    "eval.probe=false",
)
SPACE = ("optim.lr=log:0.01..10", "model.width=8,16", "train.engine=eager", "train.workers=1")


@pytest.fixture
def namespace():
    return runpy.run_path(str(ROOT / "scripts/tune.py"))["main"].__globals__


@pytest.fixture
def tune(namespace, monkeypatch, capsys, tmp_path):
    """main() with these arguments, in an empty folder: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["tune.py", *arguments])
        return namespace["main"](), *capsys.readouterr()

    return call


def test_trials_are_runs_on_held_out_images_and_the_best_is_told(tune):
    status, out, _ = tune("--trials", "3", *SMALL, *SPACE)
    runs = RunFolder.below(Path("outputs/tune/study"))
    finals = [
        max(row.value for row in run.rows() if row.name == "val/accuracy" and row.step == 4) for run in runs
    ]
    assert (
        status == 0 and 1 <= len(runs) <= 3 and f"{100 * max(finals):.2f}" in out and "best: optim.lr=" in out
    )
    assert not [row for run in runs for row in run.rows() if row.name.startswith("test/")]


def test_a_stopped_study_goes_on_with_the_trial_it_was_at(tune, namespace, monkeypatch):
    train = namespace["run"]

    def stopped(*_):
        raise KeyboardInterrupt

    assert tune("--trials", "1", *SMALL, *SPACE)[0] == 0
    monkeypatch.setitem(namespace, "run", stopped)
    status, _, err = tune("--trials", "3", *SMALL, *SPACE)
    assert status == 130 and "the same command goes on" in err
    monkeypatch.setitem(namespace, "run", train)
    status, out, _ = tune("--trials", "3", *SMALL, *SPACE)
    assert status == 0 and "2/3" in out and "1/3" not in out
    assert "3/3" not in tune("--trials", "3", *SMALL, *SPACE)[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("variant=bn", *SPACE), "data.holdout=0: tuning on the test set spoils it"),
        ((*SMALL, "optim.lr=log:10..1"), "from the lower bound to the higher"),
        ((*SMALL, "optim.lr=log:0..10"), "a logarithmic scale needs bounds above 0"),
        ((*SMALL, "model.norm=bn,foo,none"), "model.norm=foo"),
        ((*SMALL, *SPACE, "seeds=1,2"), "a trial's mean is over its seeds"),
        ((*SMALL, *SPACE, "output=here"), "the option --output says where"),
        ((*SMALL, "optim.lr=log:1..fast"), "bounds are two numbers"),
        ((*SMALL, "optim.lr=0.1"), "nothing to tune"),
        ((*SMALL, "model.width=8,nope"), "model.width=nope"),
        ((*SMALL, "optim.lrr=0.1,0.2"), "no such setting"),
        ((*SMALL, *SPACE, "--trials", "0"), "--trials 0: at least 1"),
        ((*SMALL, *SPACE, "hydra/launcher=slurm"), "without a launcher"),
    ],
)
def test_what_cannot_be_tuned_is_refused_in_one_line_before_anything_is_made(tune, arguments, said):
    status, _, err = tune(*arguments)
    assert status == 2 and said in err and err.count("\n") == 1
    assert not Path("outputs").exists()


def test_a_setting_that_only_some_trials_look_at_may_be_tuned(tune):
    space = ("model.norm=bn,none", "model.placement=before,after", "train.engine=eager", "train.workers=1")
    status, out, err = tune("--trials", "6", *SMALL[1:], *space)
    assert status == 0, err
    assert "6/6" in out


def test_a_point_between_good_ends_that_cannot_be_trained_is_left_out_and_the_study_goes_on(tune):
    space = (
        "variant=bn_ghost",
        "model.ghost_size=4",
        "data.batch_size=4..8",
        "model.width=8",
        "train.engine=eager",
    )
    status, out, err = tune("--trials", "8", "--output", "Études, zwei", *SMALL[1:], *space)
    assert status == 0 and "not a multiple" in err and "best: data.batch_size=" in out
    assert RunFolder.below(Path("Études, zwei/study"))


def test_another_space_under_the_same_name_is_refused(tune):
    assert tune("--trials", "1", *SMALL, *SPACE)[0] == 0
    status, _, err = tune("--trials", "1", *SMALL, "optim.lr=0.1,0.2")
    assert status == 2 and "give --study another name" in err
