"""Dropout with and without BN: what removing it costs, and whether the two regularize more than either.

Generalization gap: accuracy on training images minus accuracy on test images, both in evaluation mode, at the
last step. A diverged run counts as chance in an accuracy and has no gap (NaN).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import statistics
from bnrepro.analysis.effects.runs import finals
from bnrepro.analysis.frame import MissingData

WHOLE = 60_000  # data.examples = 0 stands for the training set, less what is held out
ARMS = {"bn": "with BN", "baseline": "without BN"}


class Removal(NamedTuple):
    """Test accuracy by seed with the best dropout rate and with none; `rate`: the one chosen."""

    best: pd.Series
    none: pd.Series
    rate: float


def measured(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """`what` at the last step: "accuracy" (test), "choice" or "gap" (training - test).

    choice: accuracy on held-out images, or, which flatters what is chosen, on the test set where none were.
    Index: activation, images, rate, seed; columns: variant.
    """
    if what not in ("accuracy", "choice", "gap"):
        raise ValueError(f"accuracy, choice or gap, not {what}")
    cell = ["model.activation", "data.examples", "model.dropout"]
    if what == "gap":
        table = _finals(frame, "train/accuracy_eval", cell) - _finals(frame, "test/accuracy", cell)
    else:
        table = finals(frame, "test/accuracy" if what == "accuracy" else tidy.accuracy_name(frame), cell)
    if absent := [arm for arm in ARMS if arm not in table]:
        raise MissingData(f"no runs of {' and '.join(absent)}")
    whole = WHOLE - int(frame["data.holdout"].iloc[0])
    table = table.rename(index={0: whole}, level="data.examples").sort_index()
    return table.rename_axis(["activation", "images", "rate", "seed"])


def _finals(frame: pd.DataFrame, name: str, cell: list[str]) -> pd.DataFrame:
    return finals(frame, name, cell, failed=np.nan)


def by_images(table: pd.DataFrame) -> Iterator[tuple[tuple[str, int], pd.DataFrame]]:
    """((activation, training images), its rows with index rate, seed): sigmoids first, the largest set first."""
    groups = {key: rows.droplevel(["activation", "images"]) for key, rows in table.groupby(level=[0, 1])}
    for activation, images in sorted(groups, key=lambda key: (key[0] != "sigmoid", -key[1])):
        yield (activation, int(images)), groups[activation, images]


def removal(accuracy: pd.Series, choice: pd.Series) -> Removal:
    """One arm and training set (index: rate, seed). The best rate above 0 is the one with the highest mean of
    `choice`, on other images: one chosen on the same images would be picked partly for its luck."""
    table, held = accuracy.unstack("seed"), choice.unstack("seed")  # rate x seed
    if 0 not in table.index or len(table) < 2:
        raise MissingData("dropout rate 0 and one above it are compared")
    rate = held.drop(index=0).mean(axis=1).idxmax()
    return Removal(table.loc[rate], table.loc[0], float(rate))


def four(table: pd.DataFrame) -> dict[str, pd.Series]:
    """{"both", "BN alone", "dropout alone", "neither"}, by seed; with dropout: mean over all rates > 0."""
    rates = table.index.get_level_values("rate")
    on, off = table[rates > 0].groupby("seed").mean(), table[rates == 0].droplevel("rate")
    on = on.where(
        table[rates > 0].notna().groupby("seed").all()
    )  # a run without a number is not averaged away
    return {
        "both": on["bn"],
        "BN alone": off["bn"],
        "dropout alone": on["baseline"],
        "neither": off["baseline"],
    }


CONTRASTS = (
    ("both", "BN alone"),
    ("both", "dropout alone"),
    ("BN alone", "neither"),
    ("dropout alone", "neither"),
)


def effects_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Paired differences by nonlinearity and number of training images, Holm's correction over all rows.

    Test accuracy, best dropout rate - none, in each arm (rates chosen on held-out images); then gap and test
    accuracy of BN and dropout together and alone, averaged over the rates above 0.
    """
    accuracy, choice, gap = (measured(frame, what) for what in ("accuracy", "choice", "gap"))
    held, gaps, rows = dict(by_images(choice)), dict(by_images(gap)), []
    for key, at_size in by_images(accuracy):
        names = {"nonlinearity": key[0], "training images": f"{key[1]:,}"}
        for arm, words in ARMS.items():
            found = removal(at_size[arm], held[key][arm])
            what = {
                "quantity": "test accuracy",
                "comparison": f"{words}: best dropout rate ({found.rate:g}) - none",
            }
            rows.append({**names, **what, "unit": "points", **statistics.paired(found.best, found.none)})
        for quantity, table in (("gap", gaps[key]), ("test accuracy", at_size)):
            cells = four(table)
            for one, other in CONTRASTS:
                what = {"quantity": quantity, "comparison": f"{one} - {other}"}
                rows.append(
                    {**names, **what, "unit": "points", **statistics.paired(cells[one], cells[other])}
                )
    return statistics.corrected(rows)
