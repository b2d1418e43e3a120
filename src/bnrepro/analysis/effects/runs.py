"""What the tables of several experiments share: a run's last value, and effects as a grid of words."""

import pandas as pd

from bnrepro.analysis import frame as tidy
from bnrepro.analysis.frame import CHANCE, MissingData
from bnrepro.analysis.report import format_interval


def last(frame: pd.DataFrame, name: str, cell: list[str], failed: float | None = CHANCE) -> pd.Series:
    """The value at each run's last step, indexed by (*cell, variant, seed).

    A run that diverged (NaN at the end, or a row `diverged_at`) has the value `failed`, or NaN for None.
    """
    run = [*cell, "variant", "seed"]
    tidy.need_columns(frame, run)
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


def best_rates(frame: pd.DataFrame, cell: list[str]) -> pd.Series:
    """The rate (optim.lr) of each cell and variant with the highest accuracy, mean over seeds, at the last step.

    Accuracy on held-out images, if there are any; a diverged run counts as chance; a tie goes to the lower rate.
    Index: *cell, variant.
    """
    found = last(frame, tidy.accuracy_name(frame), [*cell, "optim.lr"])
    mean = found.groupby(level=[*cell, "variant", "optim.lr"]).mean().unstack("optim.lr")
    return mean.idxmax(axis=1).rename("optim.lr")


def at_best_rates(frame: pd.DataFrame, cell: list[str]) -> pd.DataFrame:
    """The runs of each cell and variant at the rate that `best_rates` names for it."""
    rates = best_rates(frame, cell)
    own = rates.reindex(pd.MultiIndex.from_frame(frame[rates.index.names])).to_numpy()
    return frame[frame["optim.lr"].to_numpy() == own]


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
