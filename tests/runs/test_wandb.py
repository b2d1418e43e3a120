import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml

from bnrepro.config import ConfigError
from bnrepro.config.compose import single
from bnrepro.measure.metrics import BINS, EDGES
from bnrepro.runs.folder import RunFolder, Table
from bnrepro.runs.lines import TABLE, Row
from bnrepro.runs.run import run
from bnrepro.runs.wandb import WandbMirror, _join, named, over_seeds, project, recorded, write_table

SEEDS = [0, 3]
HISTOGRAM = ([1, 4, 2] + [0] * (BINS - 3), EDGES)


@pytest.fixture(autouse=True)
def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test does to W&B is no other's."""
    monkeypatch.setattr("bnrepro.runs.wandb.lost", [])


def config(mode: str) -> dict[str, Any]:
    record = {"wandb": mode, "project": "bnrepro"}
    return {"experiment": "fig1", "variant": "bn", "optim": {"lr": 0.1}, "record": record}


Recorders = list[Table | WandbMirror]  # the table first, as in a run


def evaluate(recorders: Recorders, step: int) -> None:
    for recorder in recorders:
        for seed in SEEDS:
            recorder.log(step, seed, {"test/loss": 1 / (step + seed + 3), "test/accuracy": step / 7})
            bands = {"probe/hidden3/typical/p15": -1 / 3, "probe/hidden3/typical/p85": float("inf")}
            recorder.log(step, seed, bands, {"probe/hidden3/typical": HISTOGRAM})
        recorder.flush()


@contextmanager
def recording(run_dir: Path, mode: str) -> Iterator[Recorders]:
    folder = RunFolder(run_dir)
    recorders: Recorders = [Table(folder), WandbMirror(folder, config(mode), SEEDS)]
    yield recorders
    folder.write_status("finished", SEEDS, {})
    for recorder in recorders:
        recorder.close("finished")


@pytest.fixture(scope="module", autouse=True)
def no_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of the user's own W&B is read or written."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        for name in ("CACHE", "CONFIG", "DATA"):
            patch.setenv(f"WANDB_{name}_DIR", str(home))
        patch.setenv("NETRC", str(home / "netrc"))
        patch.delenv("WANDB_API_KEY", raising=False)
        yield


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed after step 5 with a checkpoint of step 2, resumed with the mirror, finished."""
    run_dir = tmp_path_factory.mktemp("runs") / "lr0.1-ab12"
    killed = Table(RunFolder(run_dir))
    for step in (0, 2, 5):
        evaluate([killed], step)
    with recording(run_dir, "offline") as recorders:
        for recorder in recorders:
            recorder.rewind(2, SEEDS)
        evaluate(recorders, 5)
        for recorder in recorders:
            recorder.log(7, 3, {"diverged_at": 7.0})
            recorder.log(10, 3, {"train/loss": float("nan")})
        evaluate(recorders, 10)
    return run_dir


@pytest.fixture(scope="module")
def records(resumed: Path) -> dict[int, list[dict[str, Any]]]:
    """Seed -> the records of its offline run, as `wandb leet inspect --json` prints them."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json"]
    (identity,) = {path.name.split("-")[-2] for path in resumed.glob("wandb/offline-run-*")}
    files = {seed: next(resumed.glob(f"wandb/offline-run-*/run-{identity}-{seed}.wandb")) for seed in SEEDS}
    # Both at once: each takes seconds to start.
    readers = {seed: subprocess.Popen([*command, files[seed]], stdout=subprocess.PIPE) for seed in SEEDS}
    output = {seed: reader.communicate()[0] for seed, reader in readers.items()}
    return {seed: [json.loads(line) for line in lines.splitlines()] for seed, lines in output.items()}


def only(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in records if record["type"] == kind]


def test_the_offline_run_holds_every_value_of_the_table_and_no_other(resumed: Path, records: dict[int, list]):
    table = RunFolder(resumed).rows()
    assert {row.step for row in table} == {0, 2, 5, 7, 10}
    for seed in SEEDS:
        mirrored = [
            Row(seed, item["step"], name, float(value))
            for item in (history["item"] for history in only(records[seed], "history"))
            for name, value in item.items()
            if not name.startswith("_") and name != "step" and "._type" not in name
            if not name.endswith((".bins", ".values"))
        ]
        expected = [row for row in table if row.seed == seed]
        assert sorted(map(repr, mirrored)) == sorted(map(repr, expected))


def test_steps_go_up_one_history_row_each_and_are_the_axis_of_every_curve(records: dict[int, list]):
    history = only(records[3], "history")
    assert [h["item"]["step"] for h in history] == [h["step"]["num"] for h in history] == [0, 2, 5, 7, 10]
    axes = {metric.get("glob_name"): metric.get("step_metric") for metric in only(records[3], "metric")}
    assert axes["*"] == "step"


def test_histograms_keep_their_counts_and_edges(records: dict[int, list]):
    last = only(records[0], "history")[-1]["item"]
    prefix = "probe/hidden3/typical"
    assert (last[f"{prefix}.values"], last[f"{prefix}.bins"]) == HISTOGRAM
    assert last[f"{prefix}._type"] == "histogram"


def test_each_seed_is_one_run_in_the_group_of_its_experiment_and_variant(records: dict[int, list]):
    runs = [only(records[seed], "run")[0] for seed in SEEDS]
    assert [run["display_name"] for run in runs] == ["bn lr0.1 seed 0", "bn lr0.1 seed 3"]
    assert [run["tags"] for run in runs] == [["fig1"]] * 2
    assert {run["run_group"] for run in runs} == {"fig1/bn/lr0.1-ab12"}
    assert {(run["project"], run["job_type"]) for run in runs} == {("bnrepro", "bn")}
    assert [run["config"]["update"]["seed"] for run in runs] == SEEDS
    assert runs[0]["config"]["update"]["optim"] == {"lr": 0.1}
    assert only(records[0], "exit")[0].get("exit_code", 0) == 0


def contents(artifact: dict[str, Any]) -> dict[str, str]:
    return {x["path"]: Path(x["local_path"]).read_text() for x in artifact["manifest"]["contents"]}


def test_the_artifact_is_this_seed_s_part_of_the_table_and_where_the_run_came_from(
    resumed: Path, records: dict[int, list]
):
    (artifact,) = only(records[3], "artifact")
    lines = (resumed / "table.csv").read_text().splitlines(keepends=True)
    found = contents(artifact)
    assert artifact["type"] == "table"
    assert found["table.csv"] == TABLE.header + "".join(x for x in lines if x.startswith("3,"))
    assert found["run.json"] == (resumed / "run.json").read_text()
    assert yaml.safe_load(found["config.yaml"]) == config("offline")


@pytest.mark.parametrize("broken", ["init", "Run.log", "Run.finish"])
def test_wandb_failing_gives_one_warning_and_a_complete_table(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    owner = wandb.Run if "Run" in broken else wandb
    method = broken.removeprefix("Run.")
    working = getattr(owner, method)

    def fails(*arguments: Any, **settings: Any) -> None:
        if method == "finish":
            working(*arguments, **settings)
        raise RuntimeError("no more disk")

    monkeypatch.setattr(owner, method, fails)
    with recording(tmp_path, "offline") as recorders:
        for step in (0, 1, 2):
            evaluate(recorders, step)
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "no more disk" in warning.message
    assert str(tmp_path / "table.csv") in warning.message
    assert len(RunFolder(tmp_path).rows()) == 3 * len(SEEDS) * 4


@pytest.mark.parametrize("obstacle", ["no API key", "server unreachable"])
def test_online_without_key_or_server_goes_on_offline_with_one_warning(
    obstacle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def unreachable(**_: Any) -> bool:
        raise wandb.Error("server unreachable")

    if obstacle == "server unreachable":
        monkeypatch.setattr(wandb, "login", unreachable)
    with recording(tmp_path, "online") as recorders:
        evaluate(recorders, 0)
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert obstacle in warning.message
    assert "wandb sync" in warning.message
    assert len(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))) == len(SEEDS)


def test_a_mirror_that_hangs_does_not_hold_up_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    released = threading.Event()
    monkeypatch.setattr(wandb, "init", lambda **_: released.wait())
    monkeypatch.setattr("bnrepro.runs.wandb.CLOSE_TIMEOUT", 0.01)
    with recording(tmp_path, "offline") as recorders:
        evaluate(recorders, 0)
    released.set()
    mirror = recorders[-1]
    mirror._thread.join(20)
    assert not mirror.complete and not recorded(RunFolder(tmp_path), SEEDS, "offline")
    assert len(RunFolder(tmp_path).rows()) == len(SEEDS) * 4
    assert [record.message.count("still uploading") for record in caplog.records] == [1]


def test_no_key_no_environment_and_no_home_leaves_a_run(tmp_path, small):
    """config.yaml stays in the folder and holds the paths it was given; W&B's client notes where the files lie
    that it is to upload, and has logs of its own: both stay on the machine."""
    home, secrets = (
        tmp_path / "homeward-8731",
        {"WANDB_API_KEY": "0123456789abcdef" * 3, "MY_TOKEN": "tok-94127"},
    )
    home.mkdir()
    script = str(Path(__file__).parents[2] / "scripts" / "train.py")
    settings = [
        *small,
        "variant=bn",
        "record=wandb",
        f"data.root={home / 'digits'}",
        "output=runs",
    ]
    others = {key: value for key, value in os.environ.items() if "WANDB" not in key}  # this process's service
    environment = others | secrets | {"HOME": str(home)}
    subprocess.run([sys.executable, script, *settings], check=True, env=environment, cwd=tmp_path)
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert {"table.csv", "run.json", "checkpoint.pt"} <= {path.name for path in files}
    assert any(path.suffix == ".wandb" for path in files)
    # W&B's own logs name their folder; they stay on the machine as config.yaml does
    told = [path for path in files if path.name != "config.yaml" and "logs" not in path.parts]
    words = [*secrets.values(), home.name]
    found = [(path.name, word) for path in told for word in words if word.encode() in path.read_bytes()]
    assert not found


def test_a_service_that_does_not_answer_is_waited_for_once(tmp_path, monkeypatch, caplog):
    """In bounded time, with one warning; a later run of the process is not held up by it."""
    monkeypatch.setattr("bnrepro.runs.wandb.CLOSE_TIMEOUT", 0.05)
    frozen = threading.Event()
    monkeypatch.setattr(WandbMirror, "_start", lambda *_: frozen.wait(20))
    for name in ("first", "second"):
        folder = RunFolder(tmp_path / name)
        table, mirror = Table(folder), WandbMirror(folder, config("offline"), SEEDS)
        evaluate([table, mirror], 0)
        table.close("finished")
        mirror.close("finished")
    assert len(caplog.records) == 1 and "still uploading" in caplog.text
    frozen.set()


ROOT = Path(__file__).parents[2]


def read(folder: Path) -> list[dict[str, Any]]:
    """The records of the one W&B run below the folder."""
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", file]
    return [json.loads(line) for line in subprocess.check_output(command).splitlines()]


def test_over_seeds_is_the_mean_with_the_lowest_and_the_highest_beside_it():
    batch = {(5, 0): {"a": 1.0, "h": HISTOGRAM}, (5, 1): {"a": 4.0}, (5, 2): {"a": 1.0}, (6, 1): {"b": 2.0}}
    assert over_seeds(batch) == {
        (5, -1): {"a": 2.0, "seeds/low/a": 1.0, "seeds/high/a": 4.0, "h": HISTOGRAM},
        (6, -1): {"b": 2.0},
    }


def test_a_trial_of_an_agent_is_one_run_under_the_id_it_was_given_with_all_its_seeds(tmp_path, monkeypatch):
    for name, value in (("SWEEP_ID", "s1"), ("RUN_ID", "r1"), ("TAGS", "mine,fig1")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    folder = tmp_path / "lr0.1-ab12"
    with recording(folder, "offline") as recorders:
        for step in (0, 1):
            evaluate(recorders, step)
    records = read(folder)
    (run,) = only(records, "run")
    assert (run["run_id"], run["sweep_id"], run["display_name"]) == ("r1", "s1", "bn lr0.1")
    assert run["tags"] == ["fig1", "mine"] and run["config"]["update"]["seeds"] == SEEDS
    told = [history["item"] for history in only(records, "history")]
    assert told[1]["test/loss"] == pytest.approx((1 / 4 + 1 / 7) / 2)
    assert told[1]["seeds/low/test/loss"] == pytest.approx(1 / 7)
    (artifact,) = only(records, "artifact")
    assert contents(artifact)["table.csv"] == (folder / "table.csv").read_text()


def test_a_sweep_under_an_agent_is_refused_and_every_point_of_the_sweep_file_is_a_run(monkeypatch, capsys):
    import itertools
    import runpy

    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    sweep = yaml.safe_load((ROOT / "conf/wandb_sweep.yaml").read_text())
    axes = [
        [(key, value) for value in p.get("values", [p.get("value")])]
        for key, p in sweep["parameters"].items()
    ]
    found = set()
    for point in itertools.product(*axes):
        told = create_sweep_command_args({"args": {key: {"value": value} for key, value in point}})
        words = create_sweep_command(sweep["command"])
        at = words.index("${args_no_hyphens}")
        settings = [*told["args_no_hyphens"], *words[at + 1 :]]
        cfg = single(settings)
        found.add((cfg.variant, cfg.optim.lr))
        assert cfg.record.wandb == "online" and len(cfg.seeds) == 3
    assert len(found) == 6
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "variant=baseline,bn"])
    assert runpy.run_path(str(ROOT / "scripts/train.py"))["main"]() == 2
    assert "under wandb agent a trial is one run" in capsys.readouterr().err


def test_a_run_that_was_finished_before_wandb_was_asked_for_is_recorded_from_its_table_once(
    config, quiet, capsys
):
    cfg = config("variant=bn", "seeds=[3]", "eval.probe=false")
    assert run(cfg, quiet) == "finished"
    cfg.record.wandb = "offline"
    for said in ("recorded for W&B now", ""):
        assert run(cfg, quiet) == "skipped"
        assert said in capsys.readouterr().out
    folder = RunFolder.of(cfg)
    items = [history["item"] for history in only(read(folder.path), "history")]
    told = {(item["step"], name, float(v)) for item in items for name, v in item.items() if name[0] != "_"}
    assert {(row.step, row.name, row.value) for row in folder.rows()} <= told


def test_names_fit_what_the_server_takes(monkeypatch):
    long = RunFolder(Path("lr0.1-std0.1-b60-ab12cd34"))
    told = named(long, {"experiment": "e" * 120, "variant": "v" * 70}, 4)
    assert len(told["group"]) == 128 and len(told["job_type"]) == 64
    assert told["name"].endswith("lr0.1-std0.1-b60 seed 4")
    other = named(RunFolder(Path("lr0.2-x")), {"experiment": "e" * 120, "variant": "v" * 70}, 4)
    assert other["group"] != told["group"]
    assert (project("bnrepro"), project("mine")) == ("bnrepro", "mine")
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    assert (project("bnrepro"), project("mine")) == ("theirs", "mine")


@pytest.mark.parametrize("name", ["a/b", "a#b", "x" * 129, "''"])
def test_a_project_that_the_server_would_refuse_is_refused_before_training(name):
    with pytest.raises(ConfigError, match=r"record\.project="):
        single([f"record.project={name}"])


def test_a_seed_whose_artifact_is_older_than_its_end_is_left_out_and_named(tmp_path: Path) -> None:
    """The mirror of seed 0's last session gave up: what W&B has of it is from the session before."""
    ends, parts = Table(RunFolder(tmp_path / "run")), []
    for seed in (0, 1):
        for step in (0, 10, 20):
            ends.log(step, seed, {"test/loss": 1 / (step + seed + 3)})
    ends.close("finished")
    rows = ends.folder.rows()
    for seed, last, finished in ((0, 10, []), (1, 20, [0, 1])):
        part = RunFolder(tmp_path / f"artifact{seed}")
        write_table(part, [row for row in rows if row.seed == seed and row.step <= last])
        part.config.write_text("variant: bn\n")
        state = "finished" if finished else "interrupted"
        part.write_status(state, finished, {"date": f"2026-12-0{1 + seed}"}, ends.tallies)
        parts.append(part)
    whole = RunFolder(tmp_path / "whole")
    (said,) = _join(parts, whole)
    assert "seeds 0 are not there, or not whole; scripts/wandb_sync.py" in said
    assert whole.finished_seeds() == [1] and {row.seed for row in whole.rows()} == {1}
    whole.check_table()
