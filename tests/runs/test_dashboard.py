"""Dashboards as code: their specification is what it was, and speaks of metrics and settings that there are."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from bnrepro.config.refusal import kinds
from bnrepro.measure.metrics import declared
from bnrepro.runs.dashboard import VIEWS, spec, workspace

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "dashboard_fig1_quick.json"


def test_the_specification_is_the_golden_one():
    """After a change that is meant: scripts/wandb_dashboard.py entity/project fig1_quick > the golden file."""
    assert spec(workspace("entity", "project", "fig1_quick")) == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("experiment", VIEWS)
def test_a_dashboard_shows_what_its_experiment_measures_and_varies(experiment):
    layers, split, varied = VIEWS[experiment]
    file = (ROOT / f"conf/experiment/{experiment}.yaml").read_text()
    assert set(varied) <= {*kinds(), "regime"}
    assert ("holdout" in file) == (split == "val")
    made = json.dumps(spec(workspace("entity", "project", experiment)))
    for name in [f"{split}/accuracy", *(f"probe/{layer}/typical/p15" for layer in layers)]:
        assert declared(name) and name in made
    assert all(f"probe/{layer}/histogram" in made for layer in layers)


def test_the_command_lists_prints_and_refuses_in_one_line(monkeypatch, capsys):
    main = runpy.run_path(str(ROOT / "scripts/wandb_dashboard.py"))["main"]

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["wandb_dashboard.py", *arguments])
        return main(), *capsys.readouterr()

    assert call()[1].split() == list(VIEWS)
    assert json.loads(call("entity/project", "fig1_quick")[1]) == json.loads(GOLDEN.read_text())
    for bad in (("project",), ("entity/project", "nope")):
        status, _, err = call(*bad)
        assert status == 2 and err.count("\n") == 1 and "there are fig1_mnist" in err
