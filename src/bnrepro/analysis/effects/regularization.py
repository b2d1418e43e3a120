"""Dropout with and without BN: what removing it costs, and whether the two regularize more than either.

Generalization gap: accuracy on training images minus accuracy on test images, both in evaluation mode, at the
last step. A diverged run counts as chance in an accuracy and has no gap (NaN).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from bnrepro.analysis import statistics
from bnrepro.analysis.effects.runs import finals
from bnrepro.analysis.frame import MissingData

ALL = 60_000  # data.examples = 0 stands for the whole training set
ARMS = {"bn": "with BN", "baseline": "without BN"}


class Removal(NamedTuple):
    """Accuracy by seed with the best dropout rate and with none; `rates`: the rate chosen for each seed."""

    best: pd.Series
    none: pd.Series
    rates: pd.Series


def measured(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """`what`: "accuracy" or "gap", at the last step. Index: images, rate, seed; columns: variant."""
    if what not in ("accuracy", "gap"):
        raise ValueError(f"accuracy or gap, not {what}")
    cell = ["data.examples", "model.dropout"]
    if what == "accuracy":
        table = finals(frame, "test/accuracy", cell)
    else:
        train, test = (
            finals(frame, name, cell, failed=np.nan) for name in ("train/accuracy_eval", "test/accuracy")
        )
        table = train - test
    if absent := [arm for arm in ARMS if arm not in table]:
        raise MissingData(f"no runs of {' and '.join(absent)}")
    table = table.rename(index={0: ALL}, level="data.examples").sort_index()
    return table.rename_axis(["images", "rate", "seed"])


def by_images(table: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    """(number of training images, its rows with index rate, seed), smallest set first."""
    for images, rows in table.groupby(level="images"):
        yield int(images), rows.droplevel("images")


def removal(accuracy: pd.Series) -> Removal:
    """One arm and training set (index: rate, seed). The best rate above 0 is chosen on the other seeds only.

    A rate chosen on all seeds would have been picked partly for their luck: its lead over none is inflated.
    """
    table = accuracy.unstack("seed")  # rate x seed
    if 0 not in table.index or len(table) < 2:
        raise MissingData("dropout rate 0 and one above it are compared")
    if table.shape[1] < 2:
        raise MissingData("one seed: no other seed to choose the dropout rate on")
    some = table.drop(index=0)
    rates = pd.Series({seed: some.drop(columns=seed).mean(axis=1).idxmax() for seed in some})
    best = pd.Series({seed: some.loc[rate, seed] for seed, rate in rates.items()})
    return Removal(best, table.loc[0], rates)


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
    """Paired differences by number of training images, Holm's correction over all rows.

    Test accuracy, best dropout rate - none, in each arm (rates chosen on the other seeds); then gap and test
    accuracy of BN and dropout together and alone, averaged over the rates above 0.
    """
    accuracy, gap = measured(frame, "accuracy"), measured(frame, "gap")
    rows = []
    for images, at_size in by_images(accuracy):
        names = {"training images": f"{images:,}"}
        for arm, words in ARMS.items():
            found = removal(at_size[arm])
            chosen = ", ".join(f"{rate:g}" for rate in sorted(found.rates.unique()))
            what = {
                "quantity": "test accuracy",
                "comparison": f"{words}: best dropout rate ({chosen}) - none",
            }
            rows.append({**names, **what, "unit": "points", **statistics.paired(found.best, found.none)})
        for quantity, table in (("gap", gap.loc[images]), ("test accuracy", at_size)):
            cells = four(table)
            for one, other in CONTRASTS:
                what = {"quantity": quantity, "comparison": f"{one} - {other}"}
                rows.append(
                    {**names, **what, "unit": "points", **statistics.paired(cells[one], cells[other])}
                )
    return statistics.corrected(rows)
