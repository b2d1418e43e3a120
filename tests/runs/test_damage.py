"""What a damaged or foreign folder does: it is named, kept, and the run starts over; the others go on."""

import json
import pickle
import traceback
from dataclasses import replace
from zipfile import ZipFile

import pytest
import torch

from bnrepro.analysis.collect import collect
from bnrepro.config import ConfigError
from bnrepro.runs import lines
from bnrepro.runs.folder import RunFolder
from bnrepro.runs.resume import CHECKPOINT_VERSION
from bnrepro.runs.run import run
from bnrepro.runs.sweep import packs


def cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def turn(path):
    """Turn a bit in the midst of the largest tensor."""
    with ZipFile(path) as archive:
        tensor = max((archive.read(name) for name in archive.namelist()), key=len)
    data = bytearray(path.read_bytes())
    data[data.index(tensor) + len(tensor) // 2] ^= 4
    path.write_bytes(data)


def change(path, edit):
    path.write_text("".join(edit(path.read_text().splitlines(keepends=True))))


class Bomb:
    def __reduce__(self):
        return print, ("exploded",)


DAMAGE = {
    "table cut in half": lambda f: cut(f.table, 0.5),
    "table with its header only": lambda f: change(f.table, lambda lines: lines[:1]),
    "empty table": lambda f: f.table.write_text(""),
    "no table": lambda f: f.table.unlink(),
    "a line gone": lambda f: change(f.table, lambda lines: lines[:3] + lines[4:]),
    "a line doubled": lambda f: change(f.table, lambda lines: lines[:4] + lines[3:]),
    "a wrong step": lambda f: change(
        f.table, lambda lines: [lines[0], lines[1].replace(",0,", ",1,", 1), *lines[2:]]
    ),
    "a wrong value": lambda f: change(f.table, lambda lines: [*lines[:-1], lines[-1].replace(".", "1.")]),
    "another header": lambda f: change(f.table, lambda lines: ["a,b\n", *lines[1:]]),
    "CR LF": lambda f: f.table.write_bytes(f.table.read_bytes().replace(b"\n", b"\r\n")),
    "garbage": lambda f: f.table.write_bytes(bytes(range(256)) * 9),
    "checkpoint cut": lambda f: cut(f.checkpoint, 0.7),
    "a bit of the checkpoint turned": lambda f: turn(f.checkpoint),
    "empty checkpoint": lambda f: f.checkpoint.write_bytes(b""),
    "no checkpoint at all": lambda f: f.checkpoint.write_bytes(b"nets, honestly"),
    "a pickle bomb": lambda f: f.checkpoint.write_bytes(pickle.dumps(Bomb())),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    found = {}

    def table(cfg):
        if not found:
            unbroken = replace(cfg, output=str(tmp_path_factory.mktemp("whole")))
            run(unbroken, lambda done, remark: None)
            found["table"] = RunFolder.of(unbroken).table.read_bytes()
        return found["table"]

    return table


@pytest.fixture
def stopped(config, stop_at):
    """A run that stands at step 20 of 40."""
    cfg = config("variant=bn", "eval.probe=false")
    with pytest.raises(KeyboardInterrupt):
        run(cfg, stop_at(20))
    return cfg


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_named_and_kept_and_the_run_starts_over(damage, stopped, quiet, whole, capsys):
    folder = RunFolder.of(stopped)
    DAMAGE[damage](folder)
    before = {path.name: path.read_bytes() for path in (folder.table, folder.checkpoint) if path.exists()}
    assert packs([stopped]) == [[stopped]]
    assert run(stopped, quiet) == "finished"
    said = capsys.readouterr()
    assert "exploded" not in said.out
    assert len(said.err.splitlines()) == 1 and str(folder) in said.err and "starts over" in said.err
    for name, content in before.items():
        assert (folder.path / f"{name}.damaged-1").read_bytes() == content
    assert folder.table.read_bytes() == whole(stopped)


def test_a_run_of_a_layer_that_was_changed_since_is_refused_and_left_as_it_is(stopped, quiet, monkeypatch):
    folder = RunFolder.of(stopped)
    before = {path.name: path.read_bytes() for path in (folder.table, folder.checkpoint)}
    monkeypatch.setattr("bnrepro.models.mlp.normalization", lambda cfg, width: torch.nn.LayerNorm(width))
    with pytest.raises(ConfigError, match=r"another net \(.*norms\.0\.running_mean.*runs\.py rm"):
        run(stopped, quiet)
    assert {name: (folder.path / name).read_bytes() for name in before} == before


def test_new_seeds_do_not_join_finished_ones_of_a_layer_that_was_changed_since(config, quiet, monkeypatch):
    one, two = (config("variant=bn", "eval.probe=false", f"seeds={n}") for n in (1, 2))
    run(one, quiet)
    before = RunFolder.of(one).table.read_bytes()
    monkeypatch.setattr("bnrepro.models.mlp.normalization", lambda cfg, width: torch.nn.LayerNorm(width))
    with pytest.raises(ConfigError, match="another net"):
        run(two, quiet)
    assert RunFolder.of(one).table.read_bytes() == before and RunFolder.of(one).finished_seeds() == [0]


def test_a_second_damage_keeps_the_first_ones_files(stopped, quiet, stop_at):
    folder = RunFolder.of(stopped)
    folder.table.write_text("first")
    with pytest.raises(KeyboardInterrupt):
        run(stopped, stop_at(20))
    folder.table.write_text("second")
    run(stopped, quiet)
    kept = sorted(path.read_text() for path in folder.path.glob("table.csv.damaged-*"))
    assert kept == ["first", "second"]


def test_seeds_that_were_finished_in_a_damaged_table_are_trained_again(config, quiet, whole):
    one, both = config("variant=bn", "eval.probe=false", "seeds=1"), config("variant=bn", "eval.probe=false")
    run(one, quiet)
    folder = RunFolder.of(both)
    change(folder.table, lambda lines: lines[:-2])
    assert run(both, quiet) == "finished"
    assert folder.finished_seeds() == [0, 1]
    assert folder.table.read_bytes() == whole(both)


def test_a_crash_while_damaged_files_are_put_aside_loses_no_seed(config, quiet, monkeypatch):
    cfg = config("variant=bn", "eval.probe=false")
    run(cfg, quiet)
    folder, more = RunFolder.of(cfg), config("variant=bn", "eval.probe=false", "seeds=3")
    change(folder.table, lambda lines: lines[:-2])

    def killed(self):
        self.table.rename(self.table.with_name("table.csv.damaged-1"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "set_aside", killed)
        with pytest.raises(KeyboardInterrupt):
            run(more, quiet)
    assert run(more, quiet) == "finished"
    assert folder.finished_seeds() == [0, 1, 2]
    run(anew := config("variant=bn", "eval.probe=false", "seeds=3", place="anew"), quiet)
    assert folder.table.read_bytes() == RunFolder.of(anew).table.read_bytes()


def other_run(cfg, folder, config, quiet):
    run(stranger := config("variant=bn", "eval.probe=false", "optim.lr=0.7"), quiet)
    folder.checkpoint.write_bytes(RunFolder.of(stranger).checkpoint.read_bytes())


def newer(cfg, folder, config, quiet):
    torch.save({"version": CHECKPOINT_VERSION + 1}, folder.checkpoint)


@pytest.mark.parametrize(("foreign", "says"), [(other_run, "of another run"), (newer, "of another version")])
def test_a_foreign_checkpoint_is_refused_in_one_line_and_the_others_go_on(
    foreign, says, stopped, config, quiet
):
    folder = RunFolder.of(stopped)
    foreign(stopped, folder, config, quiet)
    before = folder.checkpoint.read_bytes()
    friend = config("variant=bn", "eval.probe=false", "optim.lr=0.3")
    assert packs([stopped, friend]) == [[stopped], [friend]]
    with pytest.raises(ConfigError, match=says) as caught:
        run(stopped, quiet)
    assert "\n" not in str(caught.value)
    assert folder.checkpoint.read_bytes() == before
    assert run(friend, quiet) == "finished"


def test_what_another_user_owns_is_refused_in_one_line(stopped, quiet, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(torch, "load", denied)
    with pytest.raises(ConfigError, match=r"checkpoint\.pt: Permission denied; is it another user's\?"):
        run(stopped, quiet)
    monkeypatch.undo()
    monkeypatch.setattr("bnrepro.files.FileLock.acquire", denied)
    with pytest.raises(ConfigError, match=r"cannot lock .*Permission denied"):
        run(stopped, quiet)


@pytest.mark.parametrize(
    "loss",
    [
        lambda lines: lines[:-1],
        lambda lines: lines[:1],
        lambda lines: [line for line in lines if not line.startswith("1,")],
        lambda lines: [*lines[:-1], lines[-1].rpartition(",")[0] + ",0.5\n"],
        lambda lines: [*lines, lines[-1]],
    ],
)
def test_a_finished_table_that_lost_or_changed_a_row_is_not_collected(loss, config, quiet):
    run(cfg := config("variant=bn", "eval.probe=false"), quiet)
    folder = RunFolder.of(cfg)
    change(folder.table, loss)
    with pytest.raises(
        ValueError, match=r"(not those \d+ that|as) the run wrote( them)?; remove the run"
    ) as caught:
        collect(folder.path)
    assert "\n" not in str(caught.value) and str(folder.table) in str(caught.value)


def test_rows_in_another_order_are_the_same_table(config, quiet):
    run(cfg := config("variant=bn", "eval.probe=false"), quiet)
    folder = RunFolder.of(cfg)
    before = collect(folder.path).frame
    change(folder.table, lambda lines: [lines[0], *reversed(lines[1:])])
    after = collect(folder.path).frame
    keys = ["seed", "step", "name"]
    assert after.sort_values(keys, ignore_index=True).equals(before.sort_values(keys, ignore_index=True))


def test_new_seeds_do_not_hide_that_a_finished_one_lost_rows(config, quiet):
    run(one := config("variant=bn", "eval.probe=false", "seeds=1"), quiet)
    folder = RunFolder.of(one)
    change(folder.table, lambda lines: lines[:-1])
    folder.checkpoint.unlink()  # which would have told
    run(config("variant=bn", "eval.probe=false", "seeds=2"), quiet)
    with pytest.raises(ValueError, match="rows of seed 0, and not those"):
        collect(folder.path)


def test_a_run_that_an_earlier_version_finished_is_collected_as_it_is(config, quiet):
    run(cfg := config("variant=bn", "eval.probe=false"), quiet)
    folder = RunFolder.of(cfg)
    status = folder.status()
    del status["rows"]
    folder.status_file.write_text(json.dumps(status))
    change(folder.table, lambda lines: lines[:-1])
    assert collect(folder.path).provenance[0]["seeds"] == [0, 1]


@pytest.mark.parametrize("where", ["settle", "rewind"])
def test_a_signal_while_the_table_is_put_in_order_leaves_a_run_that_goes_on_and_is_collected(
    where, config, quiet, monkeypatch
):
    run(config("variant=bn", "eval.probe=false", "seeds=1"), quiet)
    two = config("variant=bn", "eval.probe=false", "seeds=2")
    folder, counted = RunFolder.of(two), lines._counted

    def stopped(rows, before):
        if any(call.name == where for call in traceback.extract_stack()):
            raise KeyboardInterrupt
        return counted(rows, before)

    with monkeypatch.context() as patch:
        patch.setattr(lines, "_counted", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(two, quiet)
    assert (folder.status()["state"], folder.finished_seeds()) == ("interrupted", [0])
    assert set(collect(folder.path).frame["seed"]) == {0}
    assert run(two, quiet) == "finished"
    assert set(collect(folder.path).frame["seed"]) == {0, 1}
