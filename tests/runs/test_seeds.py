"""Seeds live inside a run: more of them can be added, and the table is that of all at once."""

import json
from dataclasses import replace

import pytest

from bnrepro.analysis.collect import collect
from bnrepro.runs import run as module
from bnrepro.runs.folder import RunFolder
from bnrepro.runs.run import run

BN = ("variant=bn", "train.steps=20", "eval.early=false")


@pytest.fixture
def trained(monkeypatch):
    """The lists of seeds that were trained, in turn."""
    sessions, train = [], module._train

    def noted(jobs, data, progress):
        sessions.extend(job.seeds for job in jobs)
        train(jobs, data, progress)

    monkeypatch.setattr(module, "_train", noted)
    return sessions


def elsewhere(cfg, tmp_path, **changes):
    return replace(cfg, output=str(tmp_path / "whole"), **changes)


def wall(folder):
    return folder.status()["provenance"].get("wall_s")


def table(cfg):
    return RunFolder.of(cfg).table.read_bytes()


@pytest.mark.parametrize("engine", ["eager", "xla"])
def test_five_seeds_and_then_ten_leave_the_bytes_of_ten_at_once(engine, config, quiet, tmp_path, trained):
    five = config(*BN, "seeds=5", f"train.engine={engine}")
    ten, folder = replace(five, seeds=10), RunFolder.of(five)
    assert run(five, quiet) == "finished" and run(ten, quiet) == "finished"
    assert run(ten, quiet) == "skipped" and run(five, quiet) == "skipped"
    assert trained == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    status = json.loads(folder.status_file.read_text())
    assert (status["state"], status["seeds"]) == ("finished", list(range(10)))
    assert [part["seeds"] for part in status["provenance"]["earlier_sessions"]] == [[0, 1, 2, 3, 4]]
    collected = collect(folder.path)
    assert collected.provenance[0]["seeds"] == sorted(set(collected.frame["seed"])) == list(range(10))
    run(whole := elsewhere(ten, tmp_path), quiet)
    assert table(ten) == table(whole)


@pytest.mark.parametrize("engine", ["eager", "xla"])
def test_five_seeds_interrupted_and_ten_asked_for_end_with_the_bytes_of_an_unbroken_run(
    engine, config, quiet, stop_at, tmp_path, trained
):
    five = config(*BN, "seeds=5", f"train.engine={engine}")
    with pytest.raises(KeyboardInterrupt):
        run(five, stop_at(10))
    run(ten := replace(five, seeds=10), quiet)
    assert trained == [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert RunFolder.of(ten).finished_seeds() == list(range(10))
    run(whole := elsewhere(ten, tmp_path), quiet)
    assert table(ten) == table(whole)


def test_the_wall_time_of_a_run_is_that_of_all_its_sessions_also_while_it_runs(
    config, quiet, monkeypatch, stop_at
):
    one = config("seeds=1")
    folder, opened = RunFolder.of(one), []
    monkeypatch.setattr(
        module, "fit", lambda *args, fit=module.fit: opened.append(wall(folder)) or fit(*args)
    )
    run(one, quiet)
    first = wall(folder)
    two = replace(one, seeds=2)
    with pytest.raises(KeyboardInterrupt):
        run(two, stop_at(10))
    second = wall(folder)
    run(two, quiet)
    assert opened == [None, first, second]
    assert 0 < first < second < wall(folder)


def test_added_seeds_that_are_interrupted_leave_the_finished_ones_and_resume(
    config, quiet, stop_at, tmp_path, trained
):
    two = config("seeds=2")
    run(two, quiet)
    four, folder = replace(two, seeds=4), RunFolder.of(two)
    with pytest.raises(KeyboardInterrupt):
        run(four, stop_at(10))
    assert folder.finished_seeds() == [0, 1]
    assert (folder.state(two.seeds), folder.state(four.seeds)) == ("finished", "interrupted")
    assert run(two, quiet) == "skipped"
    collected = collect(folder.path)  # what is finished, and a word on what is not
    assert collected.provenance[0]["seeds"] == [0, 1] and set(collected.frame["seed"]) == {0, 1}
    assert collected.unfinished == [f"{folder.name} (interrupted; its finished seeds are taken: 0, 1)"]
    assert run(four, quiet) == "finished"
    assert trained == [[0, 1], [2, 3], [2, 3]]
    run(whole := elsewhere(four, tmp_path), quiet)
    assert table(four) == table(whole)


def test_seeds_in_the_middle_that_are_added_last_stand_in_their_place(config, quiet, tmp_path):
    for seeds in ([3], [0, 4], [1, 2]):
        run(replace(cfg := config(), seeds=seeds), quiet)
    run(whole := elsewhere(cfg, tmp_path, seeds=5), quiet)
    assert RunFolder.of(cfg).finished_seeds() == [0, 1, 2, 3, 4]
    assert table(cfg) == table(whole)


def test_a_list_of_seeds_in_another_order_is_the_same_run(config, quiet):
    assert run(config("seeds=[3,1]"), quiet) == "finished"
    assert run(config("seeds=[1,3]"), quiet) == "skipped"
    assert RunFolder.of(config()).finished_seeds() == [1, 3]


def test_a_seed_in_company_has_the_same_numbers_as_alone(config, quiet):
    both, one = config(place="a"), config("seeds=[1]", place="b")
    run(both, quiet)
    run(one, quiet)
    rows = [RunFolder.of(cfg).rows() for cfg in (both, one)]
    assert [row for row in rows[0] if row.seed == 1] == rows[1]
