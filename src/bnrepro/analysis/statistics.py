"""Statistics of values per seed: intervals that cover 95%, paired comparisons, Holm's correction."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from bnrepro.analysis.collect import MissingData

Statistic = Literal["mean", "median"]
FEWEST = 6  # values of which the median has a 95% interval


class Interval(NamedTuple):
    value: float
    low: float
    high: float
    n: int


def estimate(values: Any, statistic: Statistic = "mean") -> Interval:
    """The mean of one value per seed with its 95% t interval, or the median with an exact one.

    The median's runs between two of the ordered values (no assumption on their distribution; 95% or more; from
    six values on, below there is none) and may be censored: inf ranks above every number. So may not the mean:
    it is inf then, without bounds. One value has no interval (NaN bounds), and a NaN among the values makes all
    of it NaN: neither can carry a verdict. Equal values have an interval of no width, from six on.
    """
    x = np.asarray(values, dtype=float)
    if x.size == 0:
        raise MissingData("no seeds to compare")
    if np.isnan(x).any():
        return Interval(np.nan, np.nan, np.nan, x.size)
    if statistic == "median":
        bounds = order_bounds(x)
        return Interval(float(np.median(x)), float(bounds[0]), float(bounds[1]), x.size)
    bounds = t_bounds(x) if np.isfinite(x).all() else (np.nan, np.nan)
    return Interval(float(x.mean()), float(bounds[0]), float(bounds[1]), x.size)


def t_bounds(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Student's 95% interval of the mean along the last axis; NaN for one value, and for fewer than six equal ones."""
    n = x.shape[-1]
    if n < 2:
        nan = np.full(x.shape[:-1], np.nan)
        return nan, nan
    half = stats.t.ppf(0.975, n - 1) * x.std(axis=-1, ddof=1) / np.sqrt(n)
    # Equal values show no spread to go by, and rounding errors are none. As for a median, six say something.
    half = np.where(np.ptp(x, axis=-1) == 0, 0.0 if n >= FEWEST else np.nan, half)
    return x.mean(axis=-1) - half, x.mean(axis=-1) + half


def order_bounds(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The narrowest pair of order statistics that holds the median with at least 95%, along the last axis."""
    n = x.shape[-1]
    k = int(stats.binom.ppf(0.025, n, 0.5)) - 1  # so many values lie outside on either side
    k += stats.binom.cdf(k + 1, n, 0.5) <= 0.025
    if k < 0:
        nan = np.full(x.shape[:-1], np.nan)
        return nan, nan
    ordered = np.sort(x, axis=-1)
    return ordered[..., k], ordered[..., n - 1 - k]


def crossed(values: Any) -> Interval:
    """The mean of values (R, C), where the rows and the columns are samples: such as ensembles, and images.

    Half width: sqrt(t_R^2 s_R^2 / R + t_C^2 s_C^2 / C), of the variances of row and of column means, each with its own
    quantile of t. What both share, the interaction, counts twice, which errs towards a wider interval. n is the number
    of rows; of one row the interval is over its columns, and so is n.
    """
    x = np.asarray(values, dtype=float)
    if len(x) == 1:
        return estimate(x[0])
    bounds = [t_bounds(x.mean(axis=1 - axis)) for axis in (0, 1)]
    half = float(np.sqrt(sum(((high - low) / 2) ** 2 for low, high in bounds)))
    return Interval(float(x.mean()), float(x.mean() - half), float(x.mean() + half), len(x))


def share(count: int, n: int) -> Interval:
    """count of n with its exact (Clopper-Pearson) 95% interval: 5 of 5 is 1.00 [0.48, 1.00]."""
    found = stats.binomtest(int(count), n).proportion_ci(method="exact")
    return Interval(count / n, float(found.low), float(found.high), n)


def matched(a: Any, b: Any, combine: Callable = np.subtract) -> np.ndarray:
    """combine(a, b) seed by seed: `np.subtract` for differences, `np.divide` for ratios.

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
        return combine(x, y)


def compared(a: Any, b: Any, statistic: Statistic = "mean", combine: Callable = np.subtract) -> Interval:
    """`estimate` of `matched`: of a's seeds against the same seeds of b."""
    return estimate(matched(a, b, combine), statistic)


def holm(pvalues: Any) -> np.ndarray:
    """Holm's step-down adjusted p-values, in the order given."""
    p = np.asarray(pvalues, dtype=float)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1.0)
    return adjusted


def p_value(differences: Any) -> float:
    """Two-sided p of the paired t-test. Equal arms have p = 1.

    NaN, nothing to test: one pair, a difference that is not finite, the same difference in every seed (no
    spread). It agrees with `estimate`: p < 0.05 where the interval leaves 0 out. With 5 seeds no rank test falls
    below 0.06, so that Holm's correction over tens of cells would leave nothing of one.
    """
    x = np.asarray(differences, dtype=float)
    if x.size < 2 or not np.isfinite(x).all():
        return np.nan
    if np.ptp(x) < 1e-12:
        return 1.0 if abs(x[0]) < 1e-12 else np.nan
    return float(stats.ttest_1samp(x, 0.0).pvalue)


def paired(a: pd.Series, b: pd.Series | None = None) -> dict[str, Any]:
    """Mean over seeds of a - b (of a, where it is a difference already), its 95% interval, n, and p."""
    interval = estimate(a) if b is None else compared(a, b)
    return {**interval._asdict(), "p": p_value(a if b is None else a - b)}


def corrected(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows with a p as a table; p is replaced by Holm's p over all rows that have one (p_holm)."""
    if not rows:
        raise MissingData("nothing to compare")
    table = pd.DataFrame(rows)
    p = table.pop("p")
    table["p_holm"] = np.nan
    table.loc[p.notna(), "p_holm"] = holm(p.dropna())
    return table
