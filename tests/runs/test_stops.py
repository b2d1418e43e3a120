"""Signals, full disks, killed workers: the run says so in one line and can be resumed to the same bytes."""

import errno
import os
import runpy
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra.errors import HydraException

from bnrepro import machine
from bnrepro.machine import SIGNALS
from bnrepro.runs.folder import RunFolder, Table
from bnrepro.runs.resume import jobs_of
from bnrepro.runs.run import run

LONG = (
    *("variant=bn", "train.steps=1500", "eval.every=100", "eval.early=false", "eval.probe=false"),
    "train.checkpoint_seconds=1000",
)
TRAIN = (sys.executable, str(Path(__file__).parents[2] / "scripts" / "train.py"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    tables: dict[tuple, bytes] = {}

    def table(cfg):
        key = (cfg.train.engine, cfg.train.steps)
        if key not in tables:
            unbroken = replace(cfg, output=str(tmp_path_factory.mktemp("whole")))
            run(unbroken, lambda done, remark: None)
            tables[key] = RunFolder.of(unbroken).table.read_bytes()
        return tables[key]

    return table


def as_from_a_terminal():
    """What starts tests may ignore signals, and children inherit that."""
    for name in SIGNALS:
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def started(cfg, settings):
    """(folder, process) of a run that has written its first rows."""
    folder, quietly = (
        RunFolder.of(cfg),
        {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True},
    )
    command = [*TRAIN, *settings, f"output={cfg.output}"]
    process = subprocess.Popen(command, preexec_fn=as_from_a_terminal, **quietly)
    while process.poll() is None and not (folder.table.exists() and len(folder.table.read_bytes()) > 500):
        pass
    return folder, process


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_leaves_a_checkpoint_and_the_state_interrupted(name, config, quiet, small, whole):
    settings = [*LONG, f"train.engine={'eager' if name == 'SIGHUP' else 'xla'}"]
    cfg = config(*settings)
    folder, process = started(cfg, [*small, *settings])
    process.send_signal(getattr(signal, name))
    said = process.communicate()[1]
    assert process.returncode == 128 + getattr(signal, name)
    assert "the same command goes on" in said and "Traceback" not in said
    assert folder.state(cfg.seeds) == "interrupted"
    assert all(0 <= job.step < 1500 for job in jobs_of(cfg))
    assert run(cfg, quiet) == "finished"
    assert folder.table.read_bytes() == whole(cfg)


def test_a_stop_that_a_library_swallows_ends_the_run_at_its_next_evaluation(config, whole, quiet):
    cfg = config(*LONG, "train.engine=eager")
    before = {name: signal.getsignal(getattr(signal, name)) for name in SIGNALS}

    def swallowing(done: int, remark: str) -> None:
        if done == 500:
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    as_from_a_terminal()
    machine.answer_signals()
    try:
        with pytest.raises(machine.Stopped):
            run(cfg, swallowing)
    finally:
        machine._asked.clear()
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
    assert RunFolder.of(cfg).state(cfg.seeds) == "interrupted"
    assert {job.step for job in jobs_of(cfg)} == {500}
    assert run(cfg, quiet) == "finished"
    assert RunFolder.of(cfg).table.read_bytes() == whole(cfg)


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_ends_the_run_in_one_line_that_names_the_file(config, quiet, whole, monkeypatch):
    cfg = config("variant=bn", "eval.probe=false")
    folder, fsync, calls = RunFolder.of(cfg), os.fsync, []

    def sometimes(file):
        calls.append(file)
        return full() if len(calls) > 12 else fsync(file)

    monkeypatch.setattr("bnrepro.runs.folder.os.fsync", sometimes)
    with pytest.raises(OSError, match=r"No space left on device: '.*(table\.csv|run\.json)'"):
        run(cfg, quiet)
    monkeypatch.undo()
    assert all(len(line.split(",")) == 4 for line in folder.table.read_text().splitlines())
    assert run(cfg, quiet) == "finished"
    assert folder.table.read_bytes() == whole(cfg)


def test_a_row_that_was_half_written_when_the_disk_was_full_is_written_once(tmp_path, monkeypatch):
    table = Table(folder := RunFolder(tmp_path))
    table.log(0, 0, {"test/loss": 1.0})
    with monkeypatch.context() as patch:
        patch.setattr("bnrepro.runs.folder.os.fsync", full)
        with pytest.raises(OSError, match=r"table\.csv"):
            table.flush()
    table.log(1, 0, {"test/loss": 2.0})
    table.close("finished")
    assert [row.step for row in folder.rows()] == [0, 1]


def test_a_checkpoint_that_cannot_be_written_is_tried_again_and_does_not_end_the_run(
    config, quiet, monkeypatch, capsys
):
    cfg, save, calls = config("variant=bn", "eval.probe=false"), torch.save, []

    def fails_once(*arguments):
        calls.append(1)
        return full() if len(calls) == 2 else save(*arguments)

    monkeypatch.setattr(torch, "save", fails_once)
    assert run(cfg, quiet) == "finished"
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "checkpoint.pt: not written" in said[0] and "tried again" in said[0]
    assert jobs_of(replace(cfg, seeds=[0, 1])) == []


def test_a_last_checkpoint_that_cannot_be_written_fails_the_run_which_is_then_finished_by_the_same_command(
    config, quiet, whole, monkeypatch, capsys
):
    cfg, save = config("variant=bn", "eval.probe=false", "train.checkpoint_seconds=0"), torch.save

    def fails_at_the_end(content, file):
        last = max(saved["step"] for saved in content["seeds"].values()) == cfg.steps
        return full() if last else save(content, file)

    monkeypatch.setattr(torch, "save", fails_at_the_end)
    with pytest.raises(OSError, match=r"checkpoint\.pt: not written"):
        run(cfg, quiet)
    folder = RunFolder.of(cfg)
    assert "tried again" not in capsys.readouterr().err
    assert folder.state(cfg.seeds) == "failed" and {0 < job.step < cfg.steps for job in jobs_of(cfg)} == {
        True
    }
    monkeypatch.undo()
    assert run(cfg, quiet) == "finished"
    assert folder.table.read_bytes() == whole(cfg)


def test_a_worker_that_is_killed_ends_the_run_in_one_line_and_it_resumes(config, quiet, small, whole):
    cfg = config(*LONG, "train.engine=eager")
    folder, process = started(cfg, [*small, *LONG, "train.engine=eager", "train.workers=2"])
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    said = process.communicate()[1]
    assert process.returncode == 1
    assert said.startswith("error: a worker process was killed") and "the same command" in said
    assert said.count("\n") == 1 and folder.state(cfg.seeds) == "failed"
    assert run(cfg, quiet) == "finished"
    assert folder.table.read_bytes() == whole(cfg)


@pytest.mark.parametrize("many", [False, True])
def test_a_signal_that_a_library_turned_into_an_error_of_its_own_is_still_a_stop(
    many, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(machine, "_asked", [])
    main = runpy.run_path(TRAIN[1])["main"]

    def wrapped(*_):
        machine._asked.append(signal.SIGHUP)
        raise HydraException("something inside was interrupted")

    monkeypatch.setattr("bnrepro.runs.sweep.run_together", wrapped)
    variants = ["-m", "variant=baseline,bn"] if many else ["variant=bn"]
    monkeypatch.setattr(sys, "argv", ["train.py", *variants, f"output={tmp_path}"])
    assert main() == 128 + signal.SIGHUP
    said = capsys.readouterr().err
    assert "the same command goes on" in said and "error" not in said and "failed" not in said


def test_a_run_whose_signal_was_turned_into_an_error_is_interrupted_and_not_failed(
    config, quiet, monkeypatch
):
    monkeypatch.setattr(machine, "_asked", [])
    cfg = config("variant=bn", "eval.probe=false")

    def wrapped(done, remark):
        if done == 20:
            machine._asked.append(signal.SIGTERM)
            raise RuntimeError("something inside was interrupted")

    with pytest.raises(RuntimeError):
        run(cfg, wrapped)
    assert RunFolder.of(cfg).state(cfg.seeds) == "interrupted" and not RunFolder.of(cfg).traceback.exists()
