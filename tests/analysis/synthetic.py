"""Made-up results with the shape of real ones: frames in memory, and runs on disk."""

import json
import runpy
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[2]
EARLY = [0, 1, 2, 5, 10, 20, 50, 100, 200]


def grid(steps: int, every: int) -> np.ndarray:
    return np.unique([s for s in EARLY if s < every] + list(range(0, steps + 1, every)) + [steps])


def figure1(
    seeds: int = 5,
    steps: int = 5000,
    every: int = 250,
    regime: str = "paper_like",
    lag: float = 0.15,
    gain: float = 0.02,
) -> pd.DataFrame:
    """Both arms of Figure 1. The baseline learns after `lag` of the training and ends `gain` below BN."""
    rows = []
    at = grid(steps, every)
    t = at / steps
    for variant in ("baseline", "bn"):
        for seed in range(seeds):
            random = np.random.default_rng([seed, variant == "bn"])
            delay, top = (lag, 0.98 - gain) if variant == "baseline" else (0.0, 0.98)
            learned = 1 - np.exp(-np.clip(t - delay, 0, None) / 0.06)
            accuracy = np.clip(0.1 + (top - 0.1) * learned + random.normal(0, 0.001, at.size) * learned, 0, 1)
            unit = np.random.default_rng(seed).normal(0, 0.4)
            if variant == "baseline":
                middle, spread = (
                    unit * 2 * learned + 0.4 * np.sin(9 * t + seed),
                    0.05 + learned * (1 + 0.4 * np.sin(5 * t)),
                )
            else:
                middle, spread = unit * 0.3 * learned, 1.0 + 0.2 * t
            noise = random.normal(0, 0.04, (3, at.size))
            values = {
                "train/loss": np.where(at > 0, 2.3 * (1 - learned) + 0.05, np.nan),
                "test/loss": 2.3 * (1 - learned) + 0.07,
                "test/accuracy": accuracy,
                "probe/hidden3/typical/p15": middle - spread + noise[0],
                "probe/hidden3/typical/p50": middle + noise[1],
                "probe/hidden3/typical/p85": middle + spread + noise[2],
            }
            if variant == "bn":
                last = np.full(at.size, np.nan)
                last[-1] = accuracy[-1] + 0.0002
                values["test/accuracy_population"] = last
            for i in range(10):  # units of the last hidden layer, at every fifth step of the grid
                for level, curve in (("p15", middle - spread), ("p50", middle), ("p85", middle + spread)):
                    sparse = np.where(np.arange(at.size) % 5 == 0, curve * (1 + 0.1 * i), np.nan)
                    values[f"probe/hidden3/unit{i}/{level}"] = sparse
            for name, value in values.items():
                rows += [
                    (variant, seed, s, name, v) for s, v in zip(at, value, strict=True) if not np.isnan(v)
                ]
    frame = pd.DataFrame(rows, columns=["variant", "seed", "step", "name", "value"])
    frame.insert(0, "experiment", "fig1_mnist")
    return frame.assign(
        **{"regime": regime, "optim.lr": np.where(frame["variant"] == "bn", 0.5, 0.1), "model.init_std": 0.1},
        **{"data.name": "mnist", "data.batch_size": 60, "train.steps": steps},
    )


def sensitivity(seeds: int = 6, careless: str = "bn") -> pd.DataFrame:
    """A rate x init std panel on the validation split, in which the arm `careless` cares less about both."""
    rows = []
    rates, deviations = [0.01, 0.1, 0.5, 2.0, 10.0], [0.01, 0.05, 0.1, 0.5, 1.0]
    for variant in ("baseline", "bn"):
        for rate in rates:
            for std in deviations:
                for seed in range(seeds):
                    random = np.random.default_rng([seed, int(rate * 100), int(std * 100)])
                    reach = abs(np.log10(rate / 0.5)) + abs(np.log10(std / 0.1))
                    cost = 0.002 * reach**2 if variant == careless else 0.25 * max(reach - 0.6, 0)
                    value = np.clip(0.97 - cost + random.normal(0, 0.002), 0.1, 1)
                    diverged = variant != careless and rate == 10.0 and std == 1.0
                    row = {"variant": variant, "seed": seed, "optim.lr": rate, "model.init_std": std}
                    rows.append({**row, "step": 0, "name": "val/accuracy", "value": 0.1})
                    slow = 100 if variant == careless else int(100 + 800 * min(reach, 3))
                    rows.append({**row, "step": slow, "name": "val/accuracy", "value": 0.91})
                    rows.append(
                        {**row, "step": 3000, "name": "val/accuracy", "value": 0.1 if diverged else value}
                    )
                    if diverged:
                        rows.append({**row, "step": 40, "name": "diverged_at", "value": 40})
    settings = {"experiment": "sensitivity_mnist", "data.name": "mnist", "data.batch_size": 60}
    settings["model.activation"] = "sigmoid"
    return pd.DataFrame(rows).assign(**settings, **{"data.holdout": 10_000, "train.steps": 3000})


def run_script(name: str, *arguments: object) -> int:
    """The exit status of scripts/<name>, run in this process."""
    path = str(ROOT / "scripts" / name)
    with patch.object(sys, "argv", [path, *map(str, arguments)]):
        return runpy.run_path(path)["main"]()


def write_run(
    folder: Path,
    variant: str = "bn",
    state: str = "finished",
    lr: float = 0.1,
    table: str = "",
    finished: list[int] | None = None,
) -> Path:
    """One run of seeds 0 and 1 as training leaves it: config.yaml, table.csv, run.json.

    `finished`: the seeds that are, of a run that is not.
    """
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        f"experiment: e\nvariant: {variant}\nregime: default\noutput: outputs\nseeds:\n- 0\n- 1\n"
        f"data:\n  name: mnist5k\n  root: /somewhere/data\n  batch_size: 60\n  holdout: 0\n"
        f"model:\n  init_std: 0.1\n  width: 100\noptim:\n  lr: {lr}\ntrain:\n  steps: 10\n  device: cpu\n"
        f"record:\n  wandb: 'off'\n"
    )
    rows = "".join(
        f"{seed},{step},test/accuracy,{0.1 + 0.2 / 3 * step!r}\n" for step in (0, 10) for seed in (0, 1)
    )
    (folder / "table.csv").write_text("seed,step,name,value\n" + (table or rows))
    status = {"state": state, "seeds": [0, 1] if state == "finished" else finished or []}
    status["provenance"] = {"commit": "1a2b3c"}
    (folder / "run.json").write_text(json.dumps(status))
    return folder
