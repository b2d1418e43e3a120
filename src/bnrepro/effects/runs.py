"""What the tables of several experiments share: a run's last value, paired comparisons, Holm's correction."""

# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportReturnType=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# (pandas' hints give every selection a union of table, column and scalar)

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from bnrepro import results
from bnrepro.report import format_interval
from bnrepro.results import MissingData

CHANCE = 0.1  # the accuracy of a run that diverged: ten classes


def last(frame: pd.DataFrame, name: str, cell: list[str], failed: float | None = CHANCE) -> pd.Series:
    """The value at each run's last step, indexed by (*cell, variant, seed).

    A run that diverged (NaN at the end, or a row `diverged_at`) has the value `failed`, or NaN for None.
    """
    run = [*cell, "variant", "seed"]
    if absent := [column for column in run if column not in frame]:
        raise MissingData(f"no column {', '.join(absent)}: it does not vary in these runs")
    rows = frame[frame["name"] == name]
    if rows.empty:
        raise MissingData(f"no rows named {name}")
    if rows.duplicated([*run, "step"]).any():
        raise ValueError(f"{name}: several runs per ({', '.join(run)}); select one with frame.query(...)")
    found = rows.loc[rows.groupby(run)["step"].idxmax()].set_index(run)["value"].sort_index()
    diverged = frame[frame["name"] == "diverged_at"].set_index(run).index
    found = found.mask(found.index.isin(diverged))
    return found if failed is None else found.fillna(failed)


def finals(frame: pd.DataFrame, name: str, cell: list[str], failed: float = CHANCE) -> pd.DataFrame:
    """`last` with an arm a column. Index: *cell, seed; columns: variant; NaN: nothing ran."""
    found = last(frame, name, cell, failed).unstack("variant")
    return found.reorder_levels([*cell, "seed"]).sort_index()


def p_value(differences: pd.Series | np.ndarray) -> float:
    """Two-sided p of the paired t-test; 1 for a single pair, and where the pairs differ by nothing."""
    x = np.asarray(differences, dtype=float)
    if x.size < 2 or np.all(x == 0):
        return 1.0
    return float(stats.ttest_1samp(x, 0.0).pvalue) if np.ptp(x) > 1e-12 else 0.0


def paired(a: pd.Series, b: pd.Series) -> dict[str, Any]:
    """Mean of a - b over seeds, its 95% bootstrap interval, n, and p of a paired t-test (two-sided).

    The t-test is the stricter of the two for few seeds, and the one that Holm's correction can use: with 5
    seeds no rank test falls below 0.06. Equal arms have p = 1. A difference that is the same in every seed
    has no spread to test it with, and a NaN no value: neither has a p (NaN).
    """
    interval = results.paired_bootstrap(a, b)
    difference = (a - b).to_numpy(dtype=float)
    p = np.nan
    if len(difference) > 1 and (np.abs(difference) < 1e-12).all():
        p = 1.0
    elif len(difference) > 1 and np.ptp(difference) > 1e-12:
        p = float(stats.ttest_1samp(difference, 0.0).pvalue)
    return {**interval._asdict(), "p": p}


def corrected(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows that end in unit and `paired(...)` as a table, p replaced by Holm's p over all rows (p_holm)."""
    if not rows:
        raise MissingData("nothing to compare")
    table = pd.DataFrame(rows)
    p = table.pop("p")
    table["p_holm"] = np.nan
    table.loc[p.notna(), "p_holm"] = results.holm(p.dropna())
    return table


def compact(table: pd.DataFrame, row: str, column: str) -> pd.DataFrame:
    """A table of effects as a grid of words, "+0.12 [+0.05, +0.19] *"; *: Holm's p < 0.05."""
    words = [
        format_interval(r["unit"], r["value"], r["low"], r["high"]).replace(" points", "")
        + (" *" if r.get("p_holm", 1) < 0.05 else "")
        + (f" ({r['censored']}/{r['n']} never)" if r.get("censored") else "")
        for r in table.to_dict("records")
    ]
    order = {name: list(dict.fromkeys(table[name])) for name in (row, column)}
    grid = table.assign(words=words).pivot(index=row, columns=column, values="words")
    return grid.reindex(index=order[row], columns=order[column]).fillna("–")
