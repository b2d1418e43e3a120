"""What a sweep tells at its end, and scripts/runs.py: from run folders alone."""

import csv
import io
import json
import math
import re
import runpy
import sys
from pathlib import Path

import pytest
import yaml

from bnrepro.analysis import summary
from bnrepro.runs.folder import RunFolder
from bnrepro.runs.lines import TABLE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def made(tmp_path):
    """made("bn", {0: [0.5, 0.9]}, lr=1): a run's folder with these accuracies of each seed at steps 0, 100, ..."""

    def make(variant, seeds, state="finished", place="e", **settings):
        path = tmp_path / place / variant / "-".join(["r", *map(str, settings.values())])
        path.mkdir(parents=True)
        folder = RunFolder(path)
        given = {
            "variant": variant,
            "seeds": list(seeds),
            "output": "x",
            "optim": settings,
            "train": {"steps": 5},
        }
        folder.config.write_text(yaml.safe_dump(given))
        lines = [
            f"{seed},{100 * i},test/accuracy,{value!r}\n"
            for seed, curve in seeds.items()
            for i, value in enumerate(curve)
        ]
        folder.table.write_text(TABLE.header + "".join(lines))
        folder.write_status(state, list(seeds) if state == "finished" else [], {"command": "python train"})
        return folder

    return make


def test_a_run_is_told_by_its_final_and_best_accuracy_its_steps_and_its_diverged_seeds(made):
    run = made("bn", {0: [0.1, 0.9, 0.8], 1: [0.1, 0.5, 0.6], 2: [0.1, 0.7, math.nan]})
    (row,) = summary.records([summary.line(run)])
    assert row["final"] == pytest.approx(0.7) and row["best"] == pytest.approx(0.75)
    assert row["final_low"] < 0.7 < row["final_high"]
    assert (row["target"], row["steps_to"], row["diverged"]) == (0.7, 100, "2")
    headings, (cells,) = summary.columns([summary.line(run)])
    assert "final test accuracy, %" in headings and "steps to 70%" in headings and "2" in cells


def test_columns_are_what_the_sweep_varies_and_not_what_follows_from_the_variant(made):
    runs = [
        made(v, {0: [0.1, a]}, lr=lr, norm=v)
        for v, lr, a in (("bn", 1, 0.9), ("bn", 2, 0.8), ("none", 1, 0.3))
    ]
    rows = summary.records([summary.line(run) for run in runs])
    assert [row["optim.lr"] for row in rows] == [1, 2, 1]
    assert "optim.norm" not in rows[0] and "train.steps" not in rows[0] and "output" not in rows[0]
    assert rows[0]["target"] == 0.8 and [row["steps_to"] for row in rows] == [100, 100, math.inf]


def test_csv_and_json_are_the_same_table(made):
    lines = [
        summary.line(made("bn", {0: [0.1, 0.9]}, lr=1)),
        summary.line(made("bn", {0: []}, "failed", lr=2)),
    ]
    told = json.loads(summary.rendered(lines, "json"))
    read = list(csv.DictReader(io.StringIO(summary.rendered(lines, "csv"))))
    assert [row["state"] for row in told] == [row["state"] for row in read] == ["finished", "failed"]
    assert told[1]["final"] is None and read[1]["final"] == ""
    assert float(read[0]["final"]) == told[0]["final"] == 0.9


def test_a_target_that_is_not_reached_is_never_and_not_unknown(made):
    lines = [summary.line(made(v, {0: [0.1, a]}, norm=v)) for v, a in (("bn", 0.9), ("none", 0.3))]
    told = json.loads(summary.rendered(lines, "json"))
    assert [row["steps_to"] for row in told] == [100, "never"]


@pytest.mark.parametrize("damage", ["config", "table", "status_file"])
def test_a_damaged_file_is_a_state_and_ends_nothing(made, damage):
    run = made("bn", {0: [0.9]})
    getattr(run, damage).write_bytes(b"\xff{\n")
    assert summary.line(run).state == "damaged"
    assert summary.records([summary.line(run)])[0]["state"] == "damaged"


def test_a_run_that_says_it_is_running_is_only_so_while_somebody_holds_its_lock(made):
    run = made("bn", {0: [0.9]}, state="running")
    with run.lock():
        assert summary.line(run).state == "running"
    assert summary.line(run).state == "killed"


@pytest.fixture
def runs(monkeypatch, capsys):
    """main() of scripts/runs.py with these arguments: (exit status, stdout, stderr)."""
    main = runpy.run_path(str(ROOT / "scripts/runs.py"))["main"]

    def call(*arguments, answer=None):
        monkeypatch.setattr(sys, "argv", ["runs.py", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO("" if answer is None else answer + "\n"))
        status = main()
        return status, *capsys.readouterr()

    return call


def test_runs_are_listed_and_shown(made, runs, tmp_path):
    run = made("bn", {0: [0.25]}, lr=1)
    made("none", {}, state="failed")
    status, out, _ = runs("ls", tmp_path)
    assert status == 0 and "25.00" in out and "failed" in out and "now" in out
    status, out, _ = runs("ls", tmp_path, "--format", "csv")
    assert [row["variant"] for row in csv.DictReader(io.StringIO(out))] == ["bn", "none"]
    status, out, _ = runs("show", run)
    assert status == 0 and "command    python train" in out and "optim.lr=1" in out and "test/accuracy" in out


def test_runs_are_removed_only_when_it_is_confirmed_and_nobody_works_on_them(made, runs, tmp_path):
    kept, gone = made("bn", {0: [0.9]}, lr=1), made("bn", {0: [0.9]}, lr=2)
    for answer in (None, "n", ""):
        assert runs("rm", gone, answer=answer)[0] == 1 and gone.config.exists()
    assert runs("rm", gone, answer="y")[0] == 0
    assert not gone.path.exists() and kept.config.exists()
    busy = made("bn", {0: [0.9]}, state="running", lr=3)
    with busy.lock():
        status, _, err = runs("rm", tmp_path, "--yes")
    assert status == 2 and "another process is working on this run" in err and kept.config.exists()
    resumed = made("bn", {0: [0.9]}, state="interrupted", lr=4)  # it compiles, and has not said "running" yet
    with resumed.lock():
        assert runs("rm", resumed, "--yes")[0] == 2 and resumed.config.exists()


def test_somebody_else_s_config_is_no_run(runs, tmp_path):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/config.yaml").write_text("a: 1")
    status, _, err = runs("rm", tmp_path, "--yes")
    assert status == 2 and "no run here" in err and (tmp_path / "conf/config.yaml").exists()


def test_a_page_of_runs_has_all_it_needs_and_a_strange_name_is_only_a_name(made, runs, tmp_path):
    made("bn", {0: [0.25, 0.5], 1: [0.5, 0.75]}, lr=1)
    made("</script><b>x", {0: [0.25, 0.5]}, lr=2)
    status, out, _ = runs("page", tmp_path, "--out", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert status == 0 and "page.html" in out and "62.50" in text
    assert "<b>x" not in text.replace("<\\/script><b>x", "") and text.count("<script>") == text.count(
        "</script>"
    )
    assert not re.findall(r'(?:src|href)="https?:', text) and str(tmp_path.parent) not in text


def test_a_page_of_runs_without_a_number_is_refused(made, runs, tmp_path):
    made("bn", {}, state="failed")
    status, _, err = runs("page", tmp_path)
    assert status == 2 and "nothing has been measured" in err and not (tmp_path / "runs.html").exists()
