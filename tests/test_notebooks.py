"""Notebooks: thin, executed, in step with their scripts, and runnable from results/ alone."""

import io
import json
import runpy
from pathlib import Path

import jupytext
import matplotlib
import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(path):
    return [(c.cell_type, c.source.strip()) for c in jupytext.read(path).cells]


def test_there_is_a_notebook():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_its_script_executed_without_errors(path):
    assert cells(path) == cells(path.with_suffix(".py"))
    code = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    kinds = {output["output_type"] for c in code for output in c["outputs"]}
    assert kinds & {"display_data", "execute_result"} and "error" not in kinds and len(cells(path)) <= 12
    assert not any(line.startswith(("def ", "class ")) for c in code for line in c["source"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs_from_the_committed_results(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    matplotlib.use("Agg")
    runpy.run_path(str(path.with_suffix(".py")))  # in this process: the imports are half of a notebook's time
    plt.close("all")
