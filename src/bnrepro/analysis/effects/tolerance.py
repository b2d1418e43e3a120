"""Tolerance of learning rate x init std: which runs train, which diverge, and how large that region is.

Trainable: a final validation accuracy of at least 90%, unless another threshold is given. Diverged: the loss
was not finite, or the run collapsed: its final accuracy is below half of the best that its arm reached with
this nonlinearity and seed, although a lower rate at the same init std does not fail so. What fails at every
lower rate too is too slow or badly initialized, not diverged.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import statistics
from bnrepro.analysis.effects.runs import CHANCE, last
from bnrepro.analysis.frame import MissingData

TRAINABLE = 0.9
CELL = ["model.activation", "model.init_std", "optim.lr"]
NET = ["variant", "model.activation"]


def fates(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a run, sorted by rate: variant, activation, init_std, lr, seed, accuracy, lost, diverged.

    accuracy: at the last step, chance (0.1) where the loss was not finite (lost).
    """
    values = last(frame, tidy.accuracy_name(frame), CELL, failed=None)
    runs = values.rename("accuracy").reset_index()
    runs = runs.rename(columns={name: name.split(".")[-1] for name in CELL}).sort_values(
        "lr", ignore_index=True
    )
    runs["lost"] = runs["accuracy"].isna()
    runs["accuracy"] = runs["accuracy"].fillna(CHANCE)
    best = runs.groupby(["variant", "activation", "seed"])["accuracy"].transform("max")
    fails = runs["lost"] | (runs["accuracy"] < best / 2)
    column = [runs[name] for name in ("variant", "activation", "init_std", "seed")]
    works = (~fails).groupby(column).cummax()  # here, or at a lower rate
    return runs.assign(diverged=runs["lost"] | (fails & works))


def areas(
    frame: pd.DataFrame, thresholds: Iterable[float] = (0.5, 0.8, TRAINABLE, 0.95, 0.97)
) -> pd.DataFrame:
    """The share of the cells (rates x init stds) with at least that accuracy, per arm, and BN - baseline."""
    runs = fates(frame)
    rows = []
    keys = [runs[name] for name in ("activation", "variant", "seed")]
    for activation in sorted(runs["activation"].unique(), reverse=True):  # sigmoid first
        for threshold in thresholds:
            shares = (runs["accuracy"] >= threshold).groupby(keys).mean()[activation]
            of = {arm: shares[arm] for arm in _arms(shares)}
            key = (activation, f"{threshold:.0%}")
            rows += [(*key, arm, "accuracy", *statistics.bootstrap(of[arm])) for arm in of]
            rows.append(
                (*key, "bn - baseline", "points", *statistics.paired_bootstrap(of["bn"], of["baseline"]))
            )
    columns = ["activation", "at least", "trainable cells", "unit", "value", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def edges(frame: pd.DataFrame) -> pd.DataFrame:
    """The lowest rate of the grid at which a run diverges (median over seeds; "never": at none of them)."""
    runs = fates(frame)
    rates = runs["lr"].where(runs["diverged"], np.inf)
    column = ["activation", "init_std", "variant", "seed"]
    lowest = rates.groupby([runs[name] for name in column]).min()
    rows = []
    for (activation, std, arm), seeds in lowest.groupby(level=column[:3]):
        rows.append((activation, f"{std:g}", arm, "number", *statistics.bootstrap(seeds, np.median)))
    columns = ["activation", "init std", "lowest rate that diverges", "unit", "value", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def best_rates(frame: pd.DataFrame, init_std: float = 0.1) -> pd.Series:
    """Indexed by (activation, variant): the rate with the highest mean accuracy at this init std.

    Raises MissingData where it was judged on the test set, or nothing ran at this init std.
    """
    if tidy.accuracy_name(frame) != "val/accuracy":
        raise MissingData("rates are chosen on validation data, and there is no val/accuracy")
    runs = fates(frame)
    here = runs[np.isclose(runs["init_std"], init_std)]
    if here.empty:
        raise MissingData(f"no runs with an init std of {init_std:g}")
    return here.groupby(["activation", "variant", "lr"])["accuracy"].mean().groupby(level=[0, 1]).agg(_argmax)


def bracket(rates: Iterable[float], rate: float) -> tuple[float, float]:
    """The grid's neighbours of a rate: the highest one not above it, the lowest one not below (NaN: none)."""
    grid_rates = np.unique(np.asarray(list(rates), dtype=float))
    below, above = grid_rates[grid_rates <= rate * (1 + 1e-9)], grid_rates[grid_rates >= rate * (1 - 1e-9)]
    return (float(below[-1]) if below.size else np.nan), (float(above[0]) if above.size else np.nan)


def diverges(frame: pd.DataFrame, activation: str, arm: str, rate: float, init_std: float = 0.1) -> pd.Series:
    """Per seed 1.0 or 0.0: did this arm diverge at this rate?"""
    runs = fates(frame)
    here = (runs["activation"] == activation) & (runs["variant"] == arm) & np.isclose(runs["lr"], rate)
    found = runs[here & np.isclose(runs["init_std"], init_std)].set_index("seed")["diverged"]
    if found.empty:
        raise MissingData(f"no runs of {arm} ({activation}) at rate {rate:g}, init std {init_std:g}")
    return found.astype(float).sort_index()


def _argmax(means: pd.Series) -> float:
    return means.idxmax()[2]


def _arms(shares: pd.Series) -> list[str]:
    if absent := {"baseline", "bn"} - set(shares.index.get_level_values("variant")):
        raise MissingData(f"no runs of {' and '.join(sorted(absent))}")
    return ["baseline", "bn"]
