"""Crops, the mean of class probabilities, and the script that judges an ensemble image by image."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bnrepro.analysis import frame as tidy
from bnrepro.config import Config, DataConfig, EvalConfig, InceptionConfig, OptimConfig, TrainConfig
from bnrepro.measure.ensemble import correct, judged, views
from bnrepro.runs.folder import RunFolder
from bnrepro.runs.run import run

ROOT = Path(__file__).resolve().parents[2]


def test_ten_crops_are_five_places_and_their_mirror_images() -> None:
    x = torch.rand(2, 3, 16, 16)
    ten = views(x, 10)
    assert len(ten) == 10 and all(view.shape == x.shape for view in ten)
    assert torch.equal(ten[0], x) and torch.equal(views(x, 1)[0], x)
    assert torch.equal(ten[1][:, :, 2:, 2:], x[:, :, :-2, :-2])  # top left: the image moves down and right
    assert all(torch.equal(ten[i + 5], ten[i].flip(3)) for i in range(5))


def test_144_crops_of_a_square_image_are_48_views_of_the_size_the_net_knows() -> None:
    x = torch.rand(2, 3, 16, 16)
    views_of = views(x, 144)
    assert len(views_of) == 48 and all(view.shape == x.shape for view in views_of)
    assert sum(torch.equal(view, x) for view in views_of) == 4  # the whole square, at each of four sizes
    flat = torch.full((1, 3, 16, 16), 0.3)
    assert all(torch.allclose(view, flat) for view in views(flat, 144))


def test_an_ensemble_is_judged_by_the_mean_of_its_members_probabilities() -> None:
    members = {
        "a": torch.tensor([[0.6, 0.4], [0.9, 0.1]], dtype=torch.float64),
        "b": torch.tensor([[0.1, 0.9], [0.4, 0.6]], dtype=torch.float64),
    }
    found = {(net, what): right.tolist() for net, what, right in judged(members, torch.tensor([1, 0]))}
    assert found["a", "correct"] == [0, 1] and found["b", "correct"] == [1, 0]
    assert found["ensemble", "correct"] == [1, 1]
    assert found["a", "correct5"] == [1, 1]  # of two classes every one is among the first five


def test_a_class_counts_as_right_if_it_is_among_the_most_probable() -> None:
    p = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    assert [correct(p, torch.tensor([1]), top).item() for top in (1, 2, 3)] == [0, 0, 1]


def test_finished_nets_become_a_table_of_images(tmp_path: Path) -> None:
    for seed, variant in enumerate(("ens1", "ens2")):
        cfg = Config(
            experiment="few",
            variant=variant,
            seeds=[seed, seed + 10],
            output=str(tmp_path / "outputs"),
            data=DataConfig(name="shapes", num_classes=2, size=32, batch_size=40, holdout=60),
            model=InceptionConfig(norm="bn", activation="relu", multiplier=0.0625),
            optim=OptimConfig(lr=0.01),
            train=TrainConfig(steps=1, device="cpu"),
            eval=EvalConfig(probe=False),
        )
        run(cfg, lambda *_: None)
    command = [sys.executable, "scripts/ensemble.py", "few", "--outputs", tmp_path / "outputs"]
    done = subprocess.run([*command, "--results", tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    frame = tidy.load(tmp_path / "few.parquet")
    assert set(frame["variant"]) == {"ens1", "ens2", "ensemble"}
    crops = ("single", "10crop", "144crop")
    names = {f"{what}/{by}" for what in ("correct", "correct5") for by in crops}
    held_out = {"val_correct/single", "val_correct5/single"}
    assert set(frame["name"]) == names | held_out
    assert frame.groupby(["seed", "variant"]).size().unique().tolist() == [6 * 100 + 2 * 60]
    assert set(frame["value"]) == {0.0, 1.0}
    notes = json.loads((tmp_path / "few.json").read_text())
    assert [note["variant"] for note in notes] == ["ens1", "ens2"]
    table = run_table(tmp_path, "ens1").read_text().splitlines()
    final = [line for line in table if line.startswith("0,1,val/accuracy_population,")]
    held = frame.query("variant == 'ens1' and name == 'val_correct/single' and seed == 0")
    single = held["value"].to_numpy(float).mean()
    assert single == pytest.approx(float(final[0].rsplit(",", 1)[1]), abs=0.005)

    stopped = RunFolder(run_table(tmp_path, "ens2").parent)
    stopped.write_status("interrupted", [], {})
    again = subprocess.run([*command, "--results", tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 2 and "ens2" in again.stderr and "is interrupted" in again.stderr
    assert json.loads((tmp_path / "few.json").read_text()) == notes


def run_table(folder: Path, variant: str) -> Path:
    return next((folder / "outputs" / "few" / variant).glob("*/table.csv"))


def test_one_finished_net_is_no_ensemble(tmp_path: Path) -> None:
    (tmp_path / "outputs/none").mkdir(parents=True)
    for name, said in (("none", "an ensemble needs two"), ("nones", "no such folder (did you mean none?)")):
        command = [sys.executable, "scripts/ensemble.py", name, "--outputs", tmp_path / "outputs"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*.*"))
