import json
import math
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnrepro.provenance import code_state, provenance
from bnrepro.record import (
    LocalTable,
    Recorder,
    Row,
    RunBusy,
    RunLock,
    open_recorder,
    read_table,
    write_status,
)

SEEDS = (0, 7)
STEPS = (0, 1, 2, 5, 10)


def train(recorder: Recorder, steps: tuple[int, ...]) -> None:
    for step in steps:
        for seed in SEEDS:
            recorder.log(step, seed, {"test/loss": 1 / (3 + step + seed), "test/accuracy": step / 10})
        recorder.flush()


@pytest.fixture
def unbroken(tmp_path: Path) -> bytes:
    table = LocalTable(tmp_path / "unbroken")
    train(table, STEPS)
    table.close("finished")
    return table.path.read_bytes()


@pytest.mark.parametrize("lost", [1, 4, 30, 60])
def test_a_torn_table_resumed_ends_with_the_bytes_of_an_unbroken_one(
    tmp_path: Path, unbroken: bytes, lost: int
):
    (tmp_path / "table.csv").write_bytes(unbroken[:-lost])
    table = LocalTable(tmp_path)
    table.rewind(2)
    train(table, (5, 10))
    table.close("finished")
    assert table.path.read_bytes() == unbroken


@pytest.mark.parametrize("last", [-1, 0, 2, 10])
def test_a_rewind_drops_later_steps_and_what_was_not_flushed(tmp_path: Path, unbroken: bytes, last: int):
    (tmp_path / "table.csv").write_bytes(unbroken)
    table = LocalTable(tmp_path)
    table.log(10, 0, {"never/flushed": 1.0})
    table.rewind(last)
    table.close("interrupted")
    assert {row.step for row in read_table(table.path)} == {step for step in STEPS if step <= last}
    train(table := LocalTable(tmp_path), tuple(step for step in STEPS if step > last))
    assert table.path.read_bytes() == unbroken


def test_a_reopened_table_is_whole_before_the_first_new_line(tmp_path: Path, unbroken: bytes):
    (tmp_path / "table.csv").write_bytes(unbroken + b"0,20,test/lo")
    LocalTable(tmp_path).close("interrupted")
    assert (tmp_path / "table.csv").read_bytes() == unbroken


def test_a_torn_last_line_is_not_read_even_where_it_parses(tmp_path: Path):
    (tmp_path / "table.csv").write_text("seed,step,name,value\n0,1,test/loss,0.25\n0,2,test/loss,0.12")
    assert read_table(tmp_path / "table.csv") == [Row(0, 1, "test/loss", 0.25)]


def test_a_broken_line_in_the_middle_is_refused_with_its_place(tmp_path: Path):
    (tmp_path / "table.csv").write_text("seed,step,name,value\n0,1,test/loss\n0,2,test/loss,0.1\n")
    with pytest.raises(ValueError, match=r"table\.csv, line 2 is not 'seed,step,name,value'"):
        read_table(tmp_path / "table.csv")


def test_a_file_that_is_no_table_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "table.csv").write_text("epoch;loss\n1;2\n")
    with pytest.raises(ValueError, match="is not a run's table"):
        LocalTable(tmp_path)
    assert (tmp_path / "table.csv").read_text() == "epoch;loss\n1;2\n"


def test_a_name_that_would_break_the_table_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="no comma"):
        LocalTable(tmp_path).log(0, 0, {"test,loss": 1.0})


@given(value=st.floats())
def test_every_float_is_read_back_exactly(tmp_path_factory: pytest.TempPathFactory, value: float):
    table = LocalTable(tmp_path_factory.mktemp("float"))
    table.log(0, 0, {"test/loss": value})
    table.close("finished")
    (row,) = read_table(table.path)
    assert row.value == value or (math.isnan(row.value) and math.isnan(value))


def test_a_second_process_on_one_run_is_refused_by_the_folder_s_name(tmp_path: Path):
    second = "import sys, pathlib, bnrepro.record as r; r.RunLock(pathlib.Path(sys.argv[1])).__enter__()"
    command = [sys.executable, "-c", second, str(tmp_path)]
    with RunLock(tmp_path):
        with pytest.raises(RunBusy, match=f"^{tmp_path}: another process"), RunLock(tmp_path):
            pass
        other = subprocess.run(command, capture_output=True, text=True)
        assert other.returncode != 0
        assert "RunBusy" in other.stderr
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_without_a_mirror_the_local_table_records_alone(tmp_path: Path):
    assert isinstance(open_recorder(tmp_path, {"record": {"wandb": "off"}}, [0]), LocalTable)
    with pytest.raises(ValueError, match="off, offline or online, not 'on'"):
        open_recorder(tmp_path, {"record": {"wandb": "on"}}, [0])


def test_the_status_replaces_the_one_before_and_leaves_no_scraps(tmp_path: Path):
    write_status(tmp_path, "running", {"device": "cpu"})
    write_status(tmp_path, "finished", {"device": "cpu", "wall_s": 1.5})
    assert json.loads((tmp_path / "run.json").read_text()) == {
        "state": "finished",
        "provenance": {"device": "cpu", "wall_s": 1.5},
    }
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


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
