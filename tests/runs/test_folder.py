"""The run folder: a table that survives a crash, states, one process at a time; and provenance."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnrepro.config import ConfigError
from bnrepro.measure.metrics import BINS, EDGES, Undeclared
from bnrepro.runs.folder import RunBusy, RunFolder, Table
from bnrepro.runs.lines import TABLE, Row
from bnrepro.runs.provenance import code_state, provenance

SEEDS = (0, 7)
STEPS = (0, 1, 2, 5, 10)


@contextmanager
def closing(table: Table, state: str) -> Iterator[None]:
    try:
        yield
    finally:
        table.close(state)


def train(table: Table, steps: tuple[int, ...], seeds: tuple[int, ...] = SEEDS) -> None:
    for step in steps:
        for seed in seeds:
            table.log(step, seed, {"test/loss": 1 / (3 + step + seed), "test/accuracy": step / 10})
        table.flush()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "e/bn/lr0.1-b60-1a2b3c4d")


@pytest.fixture
def unbroken(tmp_path: Path) -> bytes:
    table = Table(RunFolder(tmp_path / "unbroken"))
    train(table, STEPS)
    table.close("finished")
    return table.path.read_bytes()


def with_table(folder: RunFolder, content: bytes | str) -> RunFolder:
    folder.path.mkdir(parents=True)
    folder.table.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.mark.parametrize("lost", [1, 4, 30, 60])
def test_a_torn_table_resumed_ends_with_the_bytes_of_an_unbroken_one(
    folder: RunFolder, unbroken: bytes, lost: int
):
    table = Table(with_table(folder, unbroken[:-lost]))
    table.rewind(2, SEEDS)
    train(table, (5, 10))
    table.close("finished")
    assert folder.table.read_bytes() == unbroken


@pytest.mark.parametrize("last", [-1, 0, 2, 10])
def test_a_rewind_drops_later_steps_and_what_was_not_flushed(folder: RunFolder, unbroken: bytes, last: int):
    table = Table(with_table(folder, unbroken))
    table.log(10, 0, {"train/loss": 1.0})
    table.rewind(last, SEEDS)
    table.close("interrupted")
    assert {row.step for row in folder.rows()} == {step for step in STEPS if step <= last}
    train(Table(folder), tuple(step for step in STEPS if step > last))
    assert folder.table.read_bytes() == unbroken


def test_a_rewind_leaves_the_rows_of_other_seeds_alone(folder: RunFolder, unbroken: bytes):
    table = Table(with_table(folder, unbroken))
    table.rewind(1, (7,))
    table.close("interrupted")
    kept = {seed: {row.step for row in folder.rows() if row.seed == seed} for seed in SEEDS}
    assert kept == {0: set(STEPS), 7: {0, 1}}


def test_a_settled_table_has_the_bytes_of_one_session_whatever_the_order_of_its_sessions(
    folder: RunFolder, unbroken: bytes
):
    table = Table(folder)
    train(table, (0, 1), (7,))
    train(table, STEPS, (0,))
    train(table, (2, 5, 10), (7,))
    table.settle()
    table.close("finished")
    assert folder.table.read_bytes() == unbroken


def test_a_reopened_table_is_whole_before_the_first_new_line(folder: RunFolder, unbroken: bytes):
    Table(with_table(folder, unbroken + b"0,20,test/lo")).close("interrupted")
    assert folder.table.read_bytes() == unbroken


def test_a_torn_last_line_is_not_read_even_where_it_parses(folder: RunFolder):
    with_table(folder, TABLE.header + "0,1,test/loss,0.25\n0,2,test/loss,0.12")
    assert folder.rows() == [Row(0, 1, "test/loss", 0.25)]


def test_a_broken_line_in_the_middle_is_refused_with_its_place(folder: RunFolder):
    with_table(folder, TABLE.header + "0,1,test/loss\n0,2,test/loss,0.1\n")
    with pytest.raises(ValueError, match=r"table\.csv, line 2 is not 'seed,step,name,value'"):
        folder.rows()


def test_a_file_that_is_no_table_is_refused_and_left_alone(folder: RunFolder):
    with_table(folder, "epoch;loss\n1;2\n")
    with pytest.raises(ValueError, match="is not a run's table"):
        Table(folder)
    assert folder.table.read_text() == "epoch;loss\n1;2\n"


@pytest.mark.parametrize("name", ["test/acuracy", "test/loss,", "test/loss\n", ""])
def test_a_name_that_is_not_declared_is_refused_when_it_is_logged(folder: RunFolder, name: str):
    table = Table(folder)
    with pytest.raises(Undeclared, match=r"is not declared in bnrepro/measure/metrics\.py"):
        table.log(0, 0, {name: 1.0})
    table.close("failed")
    assert folder.rows() == []


@given(value=st.floats())
def test_every_float_is_read_back_exactly(tmp_path_factory: pytest.TempPathFactory, value: float):
    folder = RunFolder(tmp_path_factory.mktemp("float"))
    table = Table(folder)
    table.log(0, 0, {"test/loss": value})
    table.close("finished")
    (row,) = folder.rows()
    assert row.value == value or (math.isnan(row.value) and math.isnan(value))


def drawn(step: int, seed: int) -> dict[str, tuple[list[int], list[float]]]:
    return {"probe/hidden3/histogram": ([step, seed, *[0] * (BINS - 2)], EDGES)}


def with_histograms(table: Table, steps: tuple[int, ...], seeds: tuple[int, ...] = SEEDS) -> None:
    for step in steps:
        for seed in seeds:
            table.log(step, seed, {"test/loss": 0.5}, drawn(step, seed))
        table.flush()


def test_histograms_lie_beside_the_table_and_are_read_back_and_a_run_without_any_has_no_file(
    folder: RunFolder,
):
    table = Table(folder)
    train(table, (0,))
    assert not folder.histograms.exists() and folder.distributions() == []
    with_histograms(table, (1, 2))
    table.close("finished")
    expected = [(seed, step, *drawn(step, seed).popitem()) for step in (1, 2) for seed in SEEDS]
    assert folder.distributions() == expected


@pytest.mark.parametrize("lost", [0, 1, 150, 300])
def test_histograms_after_a_crash_end_with_the_bytes_of_an_unbroken_run(
    folder: RunFolder, tmp_path: Path, lost: int
):
    whole = Table(RunFolder(tmp_path / "whole"))
    with_histograms(whole, STEPS)
    whole.close("finished")
    torn = Table(folder)
    with_histograms(torn, STEPS)
    torn.close("failed")
    content = folder.histograms.read_bytes()
    folder.histograms.write_bytes(content[: len(content) - lost])
    table = Table(folder)
    table.rewind(2, SEEDS)
    with_histograms(table, (5, 10))
    table.settle()
    table.close("finished")
    assert folder.histograms.read_bytes() == whole.folder.histograms.read_bytes()
    assert folder.table.read_bytes() == whole.path.read_bytes()


@pytest.mark.parametrize(
    "content", ["", "epoch;loss\n", "seed,step,name,counts\n0,1,probe/hidden3/histogram,1 x\n"]
)
def test_histograms_that_cannot_be_read_are_set_aside_and_the_table_goes_on(folder, capsys, content):
    with_table(folder, TABLE.header)
    folder.histograms.write_text(content)
    table = Table(folder)
    table.rewind(-1, SEEDS)
    with_histograms(table, (5,))
    table.close("finished")
    assert [step for _, step, *_ in folder.distributions()] == [5, 5]
    said = capsys.readouterr().err
    if content:
        assert said.count("\n") == 1 and "kept as histograms.csv.damaged-1" in said
        assert (folder.path / "histograms.csv.damaged-1").read_text() == content


def test_a_second_process_on_one_run_is_refused_by_the_folder_s_name(tmp_path: Path):
    second = "import sys, bnrepro.runs.folder as r; r.RunFolder(sys.argv[1]).lock().__enter__()"
    command = [sys.executable, "-c", second, str(tmp_path)]
    with RunFolder(tmp_path).lock():
        with pytest.raises(RunBusy, match=f"^{tmp_path}: another process"), RunFolder(tmp_path).lock():
            pass
        other = subprocess.run(command, capture_output=True, text=True)
        assert other.returncode != 0
        assert "RunBusy" in other.stderr
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_the_status_replaces_the_one_before_and_leaves_no_scraps(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.write_status("running", [], {"device": "cpu"})
    folder.write_status("finished", [3, 1], {"device": "cpu", "wall_s": 1.5})
    assert json.loads((tmp_path / "run.json").read_text()) == {
        "state": "finished",
        "seeds": [1, 3],
        "rows": {},
        "provenance": {"device": "cpu", "wall_s": 1.5},
    }
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_state_is_that_of_the_seeds_asked_for(tmp_path: Path):
    folder = RunFolder(tmp_path)
    assert folder.state([0]) == "not started" and folder.finished_seeds() == []
    for state in ("running", "interrupted", "failed"):
        folder.write_status(state, [0, 1], {})
        assert [folder.state(seeds) for seeds in ([0], [1, 0], [1, 2])] == ["finished", "finished", state]
    folder.write_status("finished", [0, 1], {})
    assert [folder.state(seeds) for seeds in ([1], [2], [0, 1, 2])] == [
        *("finished", "not started", "not started")
    ]


def test_a_damaged_status_is_refused_in_one_line_that_names_it(tmp_path: Path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(
        ConfigError, match=rf"^{tmp_path}/run\.json is damaged.*delete it to resume"
    ) as caught:
        RunFolder(tmp_path).state([0])
    assert "\n" not in str(caught.value)


def test_provenance_names_command_versions_and_machine():
    origin = json.loads(json.dumps(provenance(["scripts/train.py", "note=two words"], "cpu")))
    assert origin["command"] == "scripts/train.py 'note=two words'"
    assert origin["versions"]["numpy"] == version("numpy")
    assert origin["device"] == "cpu"
    assert origin["hardware"]
    assert origin["date"].endswith("+00:00")


def test_without_git_the_commit_is_none_and_not_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    code_state.cache_clear()
    origin = provenance(["train"], "cpu")
    code_state.cache_clear()
    assert origin["commit"] is None
    assert origin["dirty"] is None


def test_what_wandb_keeps_inside_a_run_is_no_run(folder: RunFolder):
    for place in (folder.path, folder.wandb / "run-1/files", folder.path.parent / "wandb/lr0.2"):
        place.mkdir(parents=True)
        (place / "config.yaml").touch()
    found = RunFolder.below(folder.path.parents[1])
    assert [run.path.name for run in found] == [folder.path.name, "lr0.2"]


def test_a_run_is_at_work_while_a_process_holds_its_lock_whatever_it_says_itself(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert not folder.at_work()
    folder.make()
    assert not folder.at_work() and not list(folder.path.iterdir())
    with folder.lock():
        assert folder.at_work() and folder.state([0]) == "not started"
    folder.write_status("running", [], {})  # and was killed
    assert not folder.at_work()


def test_a_table_that_cannot_be_rewritten_says_so_and_not_that_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    table = Table(RunFolder(tmp_path))
    train(table, STEPS)
    monkeypatch.setattr("bnrepro.files.write", full)
    with pytest.raises(OSError, match="No space left"), closing(table, "failed"):
        table.rewind(2, SEEDS)
    monkeypatch.undo()
    assert len(TABLE.whole(tmp_path / "table.csv")) == 1 + len(SEEDS) * len(STEPS) * 2
