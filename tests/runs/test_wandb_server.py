"""What arrives at a W&B server: a stand-in on localhost, see wandb_server.py for what that does not prove."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import psutil
import pytest
import wandb
import yaml
from synthetic import run_script

from bnrepro.config import Config, without_paths
from bnrepro.progress import Progress
from bnrepro.runs import wandb as module
from bnrepro.runs.folder import RunFolder
from bnrepro.runs.lines import TABLE
from bnrepro.runs.run import run
from tests.runs.wandb_server import ENTITY, PATIENCE, Run, WandbServer

ROOT = Path(__file__).parents[2]
ONLINE = ("record=wandb", "record.wandb=online", "variant=bn")
Configs: TypeAlias = Callable[..., Config]
Captured: TypeAlias = pytest.CaptureFixture[str]


def client(*words: object) -> None:
    """`wandb ...`, for which `python` is this one."""
    command = [sys.executable, "-m", "wandb", *map(str, words)]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(
        command, check=True, capture_output=True, timeout=PATIENCE, env=os.environ | {"PATH": path}
    )


def numbers(line: dict[str, Any]) -> dict[str, float]:
    """The metrics of a line of W&B's history or of its summary, without the histograms."""
    own = {name: value for name, value in line.items() if name[0] != "_" and name not in ("step", "state")}
    return {name: value for name, value in own.items() if not isinstance(value, dict)}


def history(run: Run) -> list[tuple[int, str, float]]:
    return [(line["_step"], *item) for line in run.history for item in sorted(numbers(line).items())]


def histograms(run: Run) -> list[tuple[int, str, list[int]]]:
    lines = [(line["_step"], name, value) for line in run.history for name, value in line.items()]
    return [(step, name, value["values"]) for step, name, value in lines if isinstance(value, dict)]


def of_seed(server: WandbServer, seed: int) -> Run:
    (run,) = [run for run in server.store.runs.values() if run.id.endswith(f"-{seed}")]
    return run


def assert_whole(server: WandbServer, cfg: Config) -> None:
    """The server has one run a seed, with every row of the local table once and in order, and its artifact."""
    folder = RunFolder.of(cfg)
    lines = folder.table.read_text().splitlines(keepends=True)[1:]
    settings = without_paths(yaml.safe_load(folder.config.read_text()))
    assert len(server.store.runs) == len(cfg.seeds)
    for seed in cfg.seeds:
        rows = sorted((r.step, r.name, r.value) for r in folder.rows() if r.seed == seed)
        there = of_seed(server, seed)
        told = {name: value["value"] for name, value in there.config.items() if name[0] != "_"}
        assert told | {"record": {}} == settings | {"record": {}, "seed": seed}
        assert history(there) == rows
        mine = [(step, name, counts) for s, step, name, (counts, _) in folder.distributions() if s == seed]
        assert histograms(there) == mine and mine
        assert numbers(there.summary) == {name: value for _, name, value in rows}
        assert (there.state, there.summary["state"]) == ("finished", "finished")
        artifact = server.store.artifact_of(there.id)
        mine = TABLE.header + "".join(line for line in lines if line.startswith(f"{seed},"))
        assert server.store.file(artifact.id, "table.csv").read_text() == mine


def test_an_online_run_arrives_whole(wandb_server: WandbServer, config: Configs, quiet: Progress):
    cfg = config(*ONLINE)
    run(cfg, quiet)
    assert_whole(wandb_server, cfg)


def test_what_was_recorded_offline_arrives_the_same_by_wandb_sync(
    wandb_server: WandbServer, config: Configs, quiet: Progress
):
    cfg = config("record=wandb", "variant=bn")
    run(cfg, quiet)
    assert not wandb_server.store.runs
    client("sync", *RunFolder.of(cfg).wandb.glob("offline-run-*"))
    assert_whole(wandb_server, cfg)


def test_a_run_that_was_trained_without_wandb_arrives_from_its_table(
    wandb_server: WandbServer, config: Configs, quiet: Progress
):
    cfg = config("variant=bn")
    run(cfg, quiet)
    assert run_script("wandb_sync.py", cfg.output, "--online") == 0
    assert_whole(wandb_server, cfg)


def test_a_run_that_was_recorded_offline_is_sent_once_where_online_is_asked_for(
    wandb_server: WandbServer, config: Configs, quiet: Progress, capsys: Captured
):
    cfg = config("record=wandb", "variant=bn")
    run(cfg, quiet)
    for said in (": recorded\n", ": recorded before\n"):
        assert run_script("wandb_sync.py", RunFolder.of(cfg), "--online") == 0
        assert said in capsys.readouterr().out
        assert_whole(wandb_server, cfg)


@pytest.mark.parametrize("whose", [0, -1])
def test_a_run_or_a_trial_that_an_earlier_version_sent_is_not_sent_again(
    whose: int, wandb_server: WandbServer, config: Configs, quiet: Progress, capsys: Captured
):
    cfg = config("variant=bn")
    run(cfg, quiet)
    folder = RunFolder.of(cfg)
    folder.wandb.mkdir()
    for seed in cfg.seeds if whose == 0 else [whose]:
        (folder.wandb / f"mirrored-{seed}").touch()
    assert run_script("wandb_sync.py", folder, "--online") == 0
    assert "recorded before" in capsys.readouterr().out and not wandb_server.store.runs


def test_online_without_a_key_says_that_nothing_was_sent_and_the_next_time_sends(
    wandb_server: WandbServer,
    config: Configs,
    quiet: Progress,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
):
    cfg = config("variant=bn")
    run(cfg, quiet)
    with monkeypatch.context() as patch:
        patch.setattr(module, "unreachable", lambda: "no API key")
        assert run_script("wandb_sync.py", RunFolder.of(cfg), "--online") == 2
    assert "nothing was sent" in capsys.readouterr().err and not wandb_server.store.runs
    assert run_script("wandb_sync.py", RunFolder.of(cfg), "--online") == 0
    assert_whole(wandb_server, cfg)


# Trains, and waits at step 20 for a word. Ends as scripts/train.py does where W&B was given up.
CHILD = """
import os, sys
from bnrepro.config.compose import single
from bnrepro.runs import run, wandb
wandb.FINISH_TIMEOUT, wandb.CLOSE_TIMEOUT = 1, 3
run.run(single(sys.argv[1:]), lambda done, remark: done == 20 and sys.stdin.readline())
os._exit(0)
"""


@contextmanager
def child(*settings: str) -> Iterator[subprocess.Popen[str]]:
    command, pipe = [sys.executable, "-c", CHILD, *settings], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
            for other in psutil.process_iter(["cmdline"]):  # the client's own process, which may outlive it
                if f"--pid {process.pid}" in " ".join(other.info["cmdline"] or ()):
                    other.kill()


def test_a_run_that_is_killed_and_resumed_arrives_once_and_whole(
    wandb_server: WandbServer, config: Configs, quiet: Progress, small: tuple[str, ...], capsys: Captured
):
    cfg = config(*ONLINE)
    with child(*small, *ONLINE, f"output={cfg.output}"):
        wandb_server.store.wait(
            lambda: [bool(run.history) for run in wandb_server.store.runs.values()] == 2 * [True]
        )
    assert RunFolder.of(cfg).state(cfg.seeds) == "running"
    run(cfg, quiet)
    assert_whole(wandb_server, cfg)
    assert "WARNING" not in capsys.readouterr().err  # the client has one for every row that is there already


@pytest.mark.filterwarnings("ignore:Read the `app_url`:DeprecationWarning")  # the client's own
def test_a_trial_of_a_sweep_arrives_as_one_run_with_the_mean_of_its_seeds(
    wandb_server: WandbServer, tmp_path: Path, small: tuple[str, ...]
):
    sweep = yaml.safe_load((ROOT / "conf/wandb_sweep.yaml").read_text())
    sweep["program"] = str(ROOT / sweep["program"])
    shrunk = [word for word in small if not word.startswith("seeds=")]
    sweep["command"] += [*shrunk, f"output={tmp_path / 'runs'}", "optim.lr=0.1"]
    del sweep["parameters"]["optim.lr"], sweep["parameters"]["experiment"]
    name = wandb.sweep(sweep, entity=ENTITY, project="bnrepro")
    client("agent", f"{ENTITY}/bnrepro/{name}")
    trials = {run.config["variant"]["value"]: run for run in wandb_server.store.runs.values()}
    assert set(trials) == {"baseline", "bn"} and len(wandb_server.store.runs) == 2
    for folder in RunFolder.below(tmp_path / "runs"):
        trial = trials[folder.path.parent.name]
        artifact = wandb_server.store.artifact_of(trial.id)
        assert (trial.sweep, trial.state) == (name, "finished")
        assert wandb_server.store.file(artifact.id, "table.csv").read_bytes() == folder.table.read_bytes()
        found = {(step, name): value for step, name, value in history(trial)}
        for step, metric in {(row.step, row.name) for row in folder.rows()}:
            values = [row.value for row in folder.rows() if (row.step, row.name) == (step, metric)]
            assert len(values) == 3
            assert found[step, metric] == pytest.approx(sum(values) / 3)
            low, high = (found[step, f"seeds/{end}/{metric}"] for end in ("low", "high"))
            assert (low, high) == (min(values), max(values))


def test_a_server_that_dies_and_comes_back_has_everything(
    wandb_server: WandbServer, config: Configs, caplog: pytest.LogCaptureFixture
):
    def progress(done: int, remark: str) -> None:
        if done == 20:
            wandb_server.store.wait(lambda: len(wandb_server.store.runs) == 2)
            wandb_server.stop()
        if done == 40:
            wandb_server.start()

    cfg = config(*ONLINE)
    assert run(cfg, progress) == "finished"
    assert_whole(wandb_server, cfg)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_server_that_stays_away_costs_no_row_and_a_line_says_how_to_send_the_rest(
    wandb_server: WandbServer, config: Configs, quiet: Progress, small: tuple[str, ...]
):
    cfg, other = config(*ONLINE), config("variant=bn", place="without")
    with child(*small, *ONLINE, f"output={cfg.output}") as training:
        wandb_server.store.wait(lambda: len(wandb_server.store.runs) == 2)
        wandb_server.stop()
        _, said = training.communicate("go on\n", timeout=PATIENCE)
    run(other, quiet)
    folder = RunFolder.of(cfg)
    assert folder.state(cfg.seeds) == "finished"
    assert folder.table.read_bytes() == RunFolder.of(other).table.read_bytes()
    (script, *words) = re.findall(r"python scripts/(\S+) (\S+) (--online)", said)[0]
    wandb_server.start()
    assert run_script(script, *words) == 0
    assert_whole(wandb_server, cfg)


def collected(place: Path, *arguments: object) -> tuple[bytes, bytes]:
    """The table and the provenance that scripts/collect.py writes."""
    assert run_script("collect.py", "scratch", "--results", place, *arguments) == 0
    return (place / "scratch.parquet").read_bytes(), (place / "scratch.json").read_bytes()


def test_what_is_collected_from_wandb_is_what_is_collected_here(
    wandb_server: WandbServer,
    config: Configs,
    quiet: Progress,
    stop_at: Callable[..., Progress],
    tmp_path: Path,
):
    """Of two runs: one was stopped, which left an older artifact; one got a seed more in another session."""
    with pytest.raises(KeyboardInterrupt):
        run(config(*ONLINE, "variant=baseline", place="runs"), stop_at(20))
    for variant, seeds in (("baseline", "2"), ("bn", "2"), ("bn", "[1,2]")):
        cfg = config(*ONLINE, f"variant={variant}", f"seeds={seeds}", place="runs")
        assert run(cfg, quiet) == "finished"
    here = collected(tmp_path / "here", "--outputs", cfg.output)
    assert collected(tmp_path / "there", "--wandb", f"{ENTITY}/bnrepro") == here
    assert (len(wandb_server.store.runs), len(wandb_server.store.artifacts)) == (5, 7)


def test_a_seed_that_is_not_there_is_named_and_one_that_is_there_twice_is_refused(
    wandb_server: WandbServer, config: Configs, quiet: Progress, tmp_path: Path, capsys: Captured
):
    run(config(*ONLINE, place="first"), quiet)
    wandb_server.store.runs.pop(of_seed(wandb_server, 1).id)
    collected(tmp_path / "results", "--wandb", f"{ENTITY}/bnrepro")
    assert "(seeds 1 are not there)" in capsys.readouterr().err
    run(config(*ONLINE, place="second"), quiet)
    assert run_script("collect.py", "scratch", "--wandb", f"{ENTITY}/bnrepro", "--results", tmp_path) == 2
    assert "seed 0 is in W&B's runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "experiment", "says"),
    [
        ("nowhere", "scratch", "no such project"),
        ("bnrepro", "fig1_mnist", "no run of fig1_mnist with its table"),
    ],
)
def test_a_project_without_what_is_asked_for_is_refused_in_one_line(
    place: str, experiment: str, says: str, wandb_server: WandbServer, tmp_path: Path, capsys: Captured
):
    wandb_server.store.runs["r1"] = Run("r1", project="bnrepro", tags=["fig1_mnist"])
    results = tmp_path / "results"
    arguments = (experiment, "--wandb", f"{ENTITY}/{place}", "--results", results)
    assert run_script("collect.py", *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"collect: {ENTITY}/{place}: {says}" in error
    assert not results.exists()
