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
from bnrepro.analysis.effects.runs import last
from bnrepro.analysis.frame import CHANCE, MissingData

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
            for arm in of:
                value, low, high, n = statistics.estimate(of[arm])
                rows.append((*key, arm, "accuracy", value, max(low, 0.0), min(high, 1.0), n))  # it is a share
            rows.append((*key, "bn - baseline", "points", *statistics.compared(of["bn"], of["baseline"])))
    columns = ["activation", "at least", "arm", "unit", "value", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def edges(frame: pd.DataFrame) -> pd.DataFrame:
    """The lowest rate of the grid at which a run diverges (median over seeds; "never": at none of them)."""
    runs = fates(frame)
    rates = runs["lr"].where(runs["diverged"], np.inf)
    column = ["activation", "init_std", "variant", "seed"]
    lowest = rates.groupby([runs[name] for name in column]).min()
    rows = []
    for (activation, std, arm), seeds in lowest.groupby(level=column[:3]):
        rows.append((activation, f"{std:g}", arm, "number", *statistics.estimate(seeds, "median")))
    columns = ["activation", "init std", "arm", "unit", "value", "low", "high", "n"]
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


def fails_at(frame: pd.DataFrame, arm: str, factor: float) -> pd.Series:
    """Per seed: does this arm fail at `factor` times (optim.lr_scale) the rate optim.lr, and not at a lower one?"""
    runs = fates(frame.assign(**{"optim.lr": frame["optim.lr_scale"]}))
    here = runs[(runs["variant"] == arm) & np.isclose(runs["lr"], factor)]
    if here.empty:
        raise MissingData(f"no runs of {arm} at {factor} times the rate")
    return here.set_index("seed")["diverged"].sort_index()


def failures(frame: pd.DataFrame) -> pd.DataFrame:
    """Share of nets that fail at each multiple (optim.lr_scale) of each rate, with its exact 95% interval."""
    rows = []
    for (activation, rate), runs in frame.groupby(["model.activation", "optim.lr"], sort=False):
        found = fates(runs.assign(**{"optim.lr": runs["optim.lr_scale"]}))
        for (multiple, arm), nets in found.groupby(["lr", "variant"])["diverged"]:
            share = statistics.share(int(nets.sum()), len(nets))
            rows.append((activation, rate, f"{multiple:g}", arm, "share", *share))
    columns = [
        "activation",
        "rate",
        "multiple",
        "share of nets that fail",
        "unit",
        "value",
        "low",
        "high",
        "n",
    ]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["n"] = "nets"
    return table


def over_stds(frame: pd.DataFrame, enough: float) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """Of each arm, final accuracy and steps to `enough`, init std x seed, at the best rate for that std.

    The rate is chosen for each seed by mean final accuracy over the other seeds: one chosen with that seed's
    help would be picked partly for its luck. A net that never gets there takes infinitely many steps.
    """
    name = tidy.accuracy_name(frame)
    cell = ["model.init_std", "optim.lr"]
    finals = last(frame, name, cell)
    reached = frame[(frame["name"] == name) & (frame["value"] >= enough) & (frame["step"] > 0)]
    first = reached.groupby([*cell, "variant", "seed"])["step"].min()
    steps = first.astype(float).reindex(finals.index, fill_value=np.inf)
    accuracies, times = {}, {}
    for arm in ("baseline", "bn"):
        if arm not in finals.index.get_level_values("variant"):
            raise MissingData(f"no runs of {arm}")
        table = finals.xs(arm, level="variant").unstack("seed")  # (std, rate) x seed
        others = table.apply(lambda column, table=table: table.drop(columns=column.name).mean(axis=1))
        best = others.groupby(level=0).idxmax()  # std x seed: (std, rate)
        slow = steps.xs(arm, level="variant").unstack("seed")
        accuracies[arm] = best.apply(lambda column, table=table: column.map(table[column.name]))
        times[arm] = best.apply(lambda column, slow=slow: column.map(slow[column.name]))
    return accuracies, times


def _argmax(means: pd.Series) -> float:
    return means.idxmax()[2]


def _arms(shares: pd.Series) -> list[str]:
    if absent := {"baseline", "bn"} - set(shares.index.get_level_values("variant")):
        raise MissingData(f"no runs of {' and '.join(sorted(absent))}")
    return ["baseline", "bn"]
