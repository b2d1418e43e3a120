"""scripts/figure1.py: what it cannot draw is refused before it trains, and it ends tidily when it is told to."""

import runpy
import signal
import sys
from pathlib import Path

import pytest

from bnrepro import machine

ROOT = Path(__file__).parents[2]


@pytest.fixture
def figure1(monkeypatch, tmp_path, capsys):
    """main() in an empty folder, with `run` in place of training: (exit status, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "_asked", [])
    (tmp_path / "file").write_text("mine")
    main = runpy.run_path(str(ROOT / "scripts/figure1.py"))["main"]

    def call(*words, run):
        monkeypatch.setitem(main.__globals__, "run", run)
        monkeypatch.setattr(sys, "argv", ["figure1.py", *words])
        return main(), capsys.readouterr().err

    return call


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["variant=bn"], "compares baseline and bn"),
        (["optim.lr=0.1,0.2"], "compares baseline and bn"),
        (["--out", "figure.xyz"], "--out figure.xyz: a file that ends in one of"),
        (["--out", "."], "--out .: a file that ends in"),
        (["--out", "file/figure.png"], "file"),
        (["eval.probe=false"], "eval.probe=false: Figure 1 shows"),
        (["hydra/launcher=slurm"], "without a launcher"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_trained(words, said, figure1):
    status, error = figure1(*words, run=lambda *_: pytest.fail("trained"))
    assert status == 2 and said in error and error.count("\n") == 1


def test_a_signal_ends_it_with_its_number_and_a_word_on_how_to_go_on(figure1):
    def told(*_):
        raise machine.Stopped(signal.SIGTERM)

    status, error = figure1(run=told)
    assert status == 128 + signal.SIGTERM and "the same command goes on" in error
