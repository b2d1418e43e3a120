"""The tidy frame: one row per measured number, and what every table, figure and verdict reads from it.

One row per measured number: `experiment, variant, seed, step, name, value`, plus hyperparameters as flat
columns (`optim.lr`, ...). The same seed has the same initial weights and batch order in every variant: arms
are compared seed by seed. Where a frame holds several runs per (variant, seed), the caller selects one with
`frame.query(...)`.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from bnrepro.analysis.collect import KEYS, MissingData
from bnrepro.analysis.statistics import compared, estimate

CHANCE = 0.1  # the accuracy of a net that diverged: ten classes


class NoResults(MissingData):
    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the sentence, without the calls that led to it."""
        return [str(self)]


def results() -> Path:
    """The folder of results: of the checkout one is in, else of the one this package runs from, or BNREPRO_RESULTS.

    Raises NoResults.
    """
    if given := os.environ.get("BNREPRO_RESULTS"):
        places = [Path(given)]
    else:
        parents = [Path.cwd(), *Path.cwd().parents, Path(__file__).resolve().parents[3]]
        places = [parent / "results" for parent in parents if (parent / "pyproject.toml").is_file()]
    for place in places:
        if (place / "scorecard.csv").is_file():
            return place
    raise NoResults(
        "no results/ here: open the notebook in a checkout, or set BNREPRO_RESULTS to its results/"
    )


def load(path: Path | str) -> pd.DataFrame:
    """One collected frame. Raises MissingData if the file is absent, ValueError if it is no tidy frame."""
    if not Path(path).exists():
        raise MissingData(f"{path} is not there (scripts/collect.py writes it from finished runs)")
    frame = pd.read_parquet(path)
    if absent := [key for key in KEYS if key not in frame.columns]:
        raise ValueError(f"{path} is no tidy frame: no column {', '.join(absent)}")
    return frame


def need_columns(frame: pd.DataFrame, columns: Iterable[str]) -> None:
    """Raises MissingData unless the frame has these columns of hyperparameters."""
    if absent := [column for column in columns if column not in frame]:
        raise MissingData(f"no column {', '.join(absent)}")


def regimes(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """{regime: its rows} in alphabetical order; a frame without that column is one regime, "default"."""
    if "regime" not in frame:
        return {"default": frame}
    return {str(name): rows for name, rows in frame.groupby("regime")}


def accuracy_name(frame: pd.DataFrame) -> str:
    """`val/accuracy` where a validation split was held out, else `test/accuracy`."""
    return "val/accuracy" if (frame["name"] == "val/accuracy").any() else "test/accuracy"


def _rows(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    rows = frame[frame["name"] == name]
    if rows.empty:
        raise MissingData(f"no rows named {name}")
    if rows.duplicated(["variant", "seed", "step"]).any():
        raise ValueError(f"{name}: several runs per (variant, seed); select one with frame.query(...)")
    return rows


def curves(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Index: step; columns: (variant, seed); NaN where a run did not measure that step."""
    table = _rows(frame, name).pivot(index="step", columns=["variant", "seed"], values="value")
    return table.sort_index().sort_index(axis=1)


def accuracies(frame: pd.DataFrame) -> pd.DataFrame:
    """`curves` of the accuracy, in which a net that has diverged (evaluated, without a number) guesses."""
    name = accuracy_name(frame)
    rows = frame[frame["name"] == name]
    return curves(rows.assign(value=rows["value"].fillna(CHANCE)), name)


def arms(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(baseline, bn) of a table with columns (variant, seed), at the steps where every run has a number."""
    if not {"baseline", "bn"} <= set(table.columns.get_level_values("variant")):
        raise MissingData("an arm is missing: baseline and bn are compared")
    table = table[["baseline", "bn"]].dropna()
    if alone := sorted(set(table["baseline"].columns) ^ set(table["bn"].columns)):
        raise ValueError(f"not paired: seeds {alone} are in one arm only")
    return table["baseline"], table["bn"]


def mean_over_time(curve: pd.DataFrame | pd.Series) -> np.ndarray:
    """Mean over steps, each grid step weighted by the training it stands for (the early grid is dense)."""
    at = curve.index.to_numpy(dtype=float)
    if len(at) < 2:
        raise MissingData("fewer than two evaluated steps")
    return np.trapezoid(curve.to_numpy(dtype=float), at, axis=0) / (at[-1] - at[0])


def std_over_time(curve: pd.DataFrame | pd.Series) -> np.ndarray:
    """Standard deviation of each column over training, weighted as in `mean_over_time`."""
    return np.sqrt(mean_over_time((curve - mean_over_time(curve)) ** 2))


def final(frame: pd.DataFrame, name: str) -> pd.Series:
    """The value at each run's last step, indexed by (variant, seed)."""
    rows = _rows(frame, name)
    last = rows.loc[rows.groupby(["variant", "seed"])["step"].idxmax()]
    return last.set_index(["variant", "seed"])["value"]


def typical_unit(frame: pd.DataFrame) -> str:
    """The probe of the last hidden layer's typical unit, "probe/hidden3/typical"."""
    found = frame["name"].str.extract(r"^(probe/hidden(\d+)/typical)/p50$").dropna().drop_duplicates()
    if found.empty:
        raise MissingData("no probe of a typical unit")
    return found.loc[found[1].astype(int).idxmax(), 0]


def units(frame: pd.DataFrame) -> pd.DataFrame:
    """Probes of single units of the last hidden layer. Index: step, variant, seed, unit; columns p15, p50, p85."""
    found = (
        frame["name"].str.extract(r"^probe/hidden(?P<layer>\d+)/unit(?P<unit>\d+)/(?P<level>p\d+)$").dropna()
    )
    if found.empty:
        raise MissingData("no probes of single units (eval.units)")
    found = found[found["layer"].astype(int) == found["layer"].astype(int).max()]
    rows = frame.loc[found.index, ["step", "variant", "seed", "value"]].join(found.astype({"unit": int}))
    return rows.pivot(index=["step", "variant", "seed", "unit"], columns="level", values="value")


def panel(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy at the last step. Index: optim.lr, model.init_std, seed; columns: variant; NaN: nothing ran.

    A run whose accuracy is NaN was run and diverged: it guesses.
    """
    rows = frame[frame["name"] == accuracy_name(frame)]
    if rows.empty:
        raise MissingData("no rows of accuracy")
    cell = ["optim.lr", "model.init_std", "seed"]
    last = rows.loc[rows.groupby([*cell, "variant"])["step"].idxmax()]
    if (rows["step"] == rows["step"].max()).sum() > len(last):
        raise ValueError("several runs per (rate, init std, seed, variant); select one with frame.query(...)")
    return last.fillna({"value": CHANCE}).pivot(index=cell, columns="variant", values="value").sort_index()


def steps_to(frame: pd.DataFrame, target: float | pd.Series, name: str | None = None) -> pd.DataFrame:
    """First evaluated step after step 0 with an accuracy of at least `target` (number, or Series by seed).

    Columns variant, seed, target, steps, censored, budget. A run that never gets there is kept, with
    steps = inf, censored = True and its last step as the budget. The resolution is the evaluation grid's.
    """
    found = []
    curve_of = curves(frame, name or accuracy_name(frame))
    for variant, seed in curve_of.columns:
        curve = curve_of.loc[curve_of.index > 0, (variant, seed)].dropna()
        goal = float(target[seed]) if isinstance(target, pd.Series) else float(target)
        reached = curve.index[curve >= goal]
        steps = float(reached[0]) if len(reached) else np.inf
        found.append((variant, seed, goal, steps, len(reached) == 0, max(curve.index, default=0)))
    return pd.DataFrame(found, columns=["variant", "seed", "target", "steps", "censored", "budget"])


def baseline_best(frame: pd.DataFrame, name: str | None = None) -> pd.Series:
    """Per seed, the baseline's highest accuracy after step 0: the target for that seed's pair of runs.

    The maximum of a noisy curve flatters the baseline, which makes the target harder for the other arm.
    """
    curve = curves(frame, name or accuracy_name(frame))
    if "baseline" not in curve.columns.get_level_values("variant"):
        raise MissingData("no variant named baseline")
    return curve.loc[curve.index > 0, "baseline"].max()


def figure1_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The numbers of Figure 1, one row each: quantity, arm, unit, value, low, high, n, censored.

    Accuracies are at the last step: means over seeds and the paired mean difference. Steps are to the
    baseline's best, for each seed its own (`baseline_best`): medians over seeds and the median paired ratio.
    `censored` counts the seeds that never got there. Raises MissingData unless both arms are there.
    """
    name = accuracy_name(frame)
    rows = []
    for metric, statistics in [(name, "moving averages"), (f"{name}_population", "population statistics")]:
        if not (frame["name"] == metric).any():
            continue
        quantity = f"final {'validation' if name[0] == 'v' else 'test'} accuracy ({statistics} in BN)"
        last = final(frame, metric)
        arms = {arm: last[arm] for arm in ("baseline", "bn") if arm in last.index.get_level_values("variant")}
        rows += [(quantity, arm, "accuracy", *estimate(values), 0) for arm, values in arms.items()]
        if len(arms) == 2:
            rows.append((quantity, "bn - baseline", "points", *compared(arms["bn"], arms["baseline"]), 0))
    reached = steps_to(frame, baseline_best(frame, name), name).set_index(["variant", "seed"])
    if "bn" not in reached.index.get_level_values("variant"):
        raise MissingData("no variant named bn")
    steps, censored = reached["steps"], reached["censored"].groupby("variant").sum()
    quantity = "steps to the baseline's best"
    rows += [(quantity, v, "steps", *estimate(steps[v], "median"), censored[v]) for v in ("baseline", "bn")]
    ratio = compared(steps["bn"], steps["baseline"], "median", combine=np.divide)
    rows.append((quantity, "bn / baseline", "ratio", *ratio, censored["bn"]))
    return pd.DataFrame(rows, columns=["quantity", "arm", "unit", "value", "low", "high", "n", "censored"])
