"""The tidy frame, and the few statistics that every table, figure and verdict shares.

One row per measured number: `experiment, variant, seed, step, name, value`, plus hyperparameters as flat
columns (`optim.lr`, ...). The same seed has the same initial weights and batch order in every variant: arms
are compared seed by seed. Where a frame holds several runs per (variant, seed), the caller selects one with
`frame.query(...)`.
"""

# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportReturnType=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportAssignmentType=false
# (pandas' hints give every selection a union of table, column and scalar)

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from bnrepro.collect import KEYS, METRICS, Collected, MissingData, collect, save  # noqa: F401


class Interval(NamedTuple):
    value: float
    low: float
    high: float
    n: int


def load(path: Path | str) -> pd.DataFrame:
    """One collected frame. Raises MissingData if the file is absent, ValueError if it is no tidy frame."""
    if not Path(path).exists():
        raise MissingData(f"{path} is not there (scripts/collect.py writes it from finished runs)")
    frame = pd.read_parquet(path)
    if absent := [key for key in KEYS if key not in frame.columns]:
        raise ValueError(f"{path} is no tidy frame: no column {', '.join(absent)}")
    return frame


def regimes(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """{regime: its rows} in alphabetical order; a frame without that column is one regime, "default"."""
    if "regime" not in frame:
        return {"default": frame}
    return {str(name): rows for name, rows in frame.groupby("regime")}


def accuracy_name(frame: pd.DataFrame) -> str:
    """`test/accuracy`, or `val/accuracy` where a validation split was held out."""
    return "test/accuracy" if (frame["name"] == "test/accuracy").any() else "val/accuracy"


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


def panel(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy at the last step. Index: optim.lr, model.init_std, seed; columns: variant; NaN: nothing ran.

    A run whose accuracy is NaN was run and failed: it counts as 0.
    """
    rows = frame[frame["name"] == accuracy_name(frame)]
    if rows.empty:
        raise MissingData("no rows of accuracy")
    cell = ["optim.lr", "model.init_std", "seed"]
    last = rows.loc[rows.groupby([*cell, "variant"])["step"].idxmax()]
    if (rows["step"] == rows["step"].max()).sum() > len(last):
        raise ValueError("several runs per (rate, init std, seed, variant); select one with frame.query(...)")
    return last.fillna({"value": 0.0}).pivot(index=cell, columns="variant", values="value").sort_index()


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


def bootstrap(values: Any, statistic: Callable = np.mean, n_resamples: int = 10_000) -> Interval:
    """`statistic` of one value per seed, with a 95% percentile-bootstrap interval (fixed random stream).

    Percentile, not BCa: it never leaves the range of the data, suits medians, is defined for constant data
    (zero width). It is narrow for few seeds: for the mean of normal data it covers 90% at n = 10 and 84% at
    n = 5. Censored values (inf) rank above every number. One value has no interval (NaN bounds), and a NaN
    among the values makes all of it NaN: neither can carry a verdict.
    """
    x = np.asarray(values, dtype=float)
    if x.size == 0:
        raise MissingData("no seeds to compare")
    if np.isnan(x).any():
        return Interval(np.nan, np.nan, np.nan, x.size)
    if x.size == 1:
        return Interval(float(x[0]), np.nan, np.nan, 1)
    if np.all(x == x[0]):
        return Interval(float(x[0]), float(x[0]), float(x[0]), x.size)
    x = np.where(np.isposinf(x), 1e150, x)  # finite while resampling: inf - inf inside a quantile is NaN
    found = stats.bootstrap(
        (x,), statistic, n_resamples=n_resamples, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    value, low, high = (np.inf if v > 1e100 else float(v) for v in (statistic(x), found.low, found.high))
    return Interval(value, low, high, x.size)


def paired_bootstrap(
    a: Any, b: Any, statistic: Callable = np.mean, n_resamples: int = 10_000, combine: Callable = np.subtract
) -> Interval:
    """`statistic` of combine(a, b) seed by seed: `np.subtract` for differences, `np.divide` for ratios.

    Two Series are matched by index (the seed), arrays by position. Raises ValueError where the seeds differ.
    """
    if isinstance(a, pd.Series) and isinstance(b, pd.Series):
        if alone := sorted(set(a.index) ^ set(b.index)):
            raise ValueError(f"not paired: seeds {alone} are in one arm only")
        b = b.reindex(a.index)
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if x.shape != y.shape:
        raise ValueError(f"not paired: {x.size} values against {y.size}")
    with np.errstate(divide="ignore", invalid="ignore"):
        return bootstrap(combine(x, y), statistic, n_resamples)


def holm(pvalues: Any) -> np.ndarray:
    """Holm's step-down adjusted p-values, in the order given."""
    p = np.asarray(pvalues, dtype=float)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1.0)
    return adjusted


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
        rows += [(quantity, arm, "accuracy", *bootstrap(values), 0) for arm, values in arms.items()]
        if len(arms) == 2:
            rows.append(
                (quantity, "bn - baseline", "points", *paired_bootstrap(arms["bn"], arms["baseline"]), 0)
            )
    reached = steps_to(frame, baseline_best(frame, name), name).set_index(["variant", "seed"])
    if "bn" not in reached.index.get_level_values("variant"):
        raise MissingData("no variant named bn")
    steps, censored = reached["steps"], reached["censored"].groupby("variant").sum()
    quantity = "steps to the baseline's best"
    rows += [(quantity, v, "steps", *bootstrap(steps[v], np.median), censored[v]) for v in ("baseline", "bn")]
    ratio = paired_bootstrap(steps["bn"], steps["baseline"], np.median, combine=np.divide)
    rows.append((quantity, "bn / baseline", "ratio", *ratio, censored["bn"]))
    return pd.DataFrame(rows, columns=["quantity", "arm", "unit", "value", "low", "high", "n", "censored"])
