"""Statistics of values per seed: intervals, paired comparisons, Holm's correction."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from bnrepro.analysis.collect import MissingData


class Interval(NamedTuple):
    value: float
    low: float
    high: float
    n: int


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


def p_value(differences: Any) -> float:
    """Two-sided p of the paired t-test. Equal arms have p = 1.

    NaN, nothing to test: one pair, a difference that is not finite, the same difference in every seed (no
    spread). The t-test is the stricter of the two beside the bootstrap for few seeds, and the one that Holm's
    correction can use: with 5 seeds no rank test falls below 0.06.
    """
    x = np.asarray(differences, dtype=float)
    if x.size < 2 or not np.isfinite(x).all():
        return np.nan
    if np.ptp(x) < 1e-12:
        return 1.0 if abs(x[0]) < 1e-12 else np.nan
    return float(stats.ttest_1samp(x, 0.0).pvalue)


def paired(a: pd.Series, b: pd.Series | None = None) -> dict[str, Any]:
    """Mean over seeds of a - b (of a, where it is a difference already), its 95% interval, n, and p."""
    interval = bootstrap(a) if b is None else paired_bootstrap(a, b)
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
