"""Notebooks: thin, executed, in step with their scripts, and runnable from results/ alone."""

import io
import json
import runpy
import subprocess
import sys
from pathlib import Path

import jupytext
import matplotlib
import matplotlib.pyplot as plt
import pytest

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import report

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


def test_executed_notebooks_share_a_process_and_nothing_else_until_one_fails(tmp_path):
    cells = {
        "a": "import os\nimport pandas\npandas.options.display.precision = 1\nx = 1\nprint(os.getpid())",
        "b": "import os\nimport pandas\nprint(os.getpid(), 'x' in globals() or 'matplotlib' in globals())\n"
        "print(pandas.options.display.precision)",
        "broken": "1 / 0",
        "dead": "import os\nos._exit(1)",
        "last": "import os\nprint(os.getpid())",
    }
    paths = {name: tmp_path / f"{name}.py" for name in cells}
    for name, path in paths.items():
        path.write_text(f"# %%\n{cells[name]}\n")
        path.with_suffix(".ipynb").write_text("as it was")
    command = [sys.executable, ROOT / "scripts" / "notebooks.py", *paths.values(), "--jobs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (
        done.returncode == 1
        and "ZeroDivisionError" in done.stderr
        and f"{paths['dead']} failed" in done.stderr
    )
    printed = {}
    for name, path in paths.items():
        if name in ("broken", "dead"):
            assert path.with_suffix(".ipynb").read_text() == "as it was"
        else:
            (cell,) = json.loads(path.with_suffix(".ipynb").read_text())["cells"]
            assert cell["execution_count"] == 1
            printed[name] = "".join(cell["outputs"][0]["text"]).split()
    assert printed["b"] == [*printed["a"], "False", "6"] and printed["last"] != printed["a"]


def test_results_are_found_from_anywhere_and_their_absence_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tidy.results() == ROOT / "results"
    monkeypatch.setenv("BNREPRO_RESULTS", str(tmp_path))
    with pytest.raises(tidy.NoResults, match="no results/ here: open the notebook in a checkout") as caught:
        tidy.results()
    assert caught.value._render_traceback_() == [str(caught.value)]


def test_a_table_s_origin_is_a_line(tmp_path):
    text = report.origin(ROOT / "results", "fig1_mnist", "sensitivity_mnist")
    assert (
        len(text.splitlines()) == 2
        and "seeds 70 to 99; python scripts/train.py -m experiment=fig1_mnist" in text
    )
    assert report.spans([25, 0, 2, 1, 24, 10]) == "0 to 2, 10, 24 to 25"
