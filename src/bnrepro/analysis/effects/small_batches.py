"""Small batches and the alternatives to BN: final accuracy by batch size, and paired differences.

Each method has a rate of its own at each batch size: the one with the highest accuracy on held-out images. What is
reported of it is measured on the test set.
"""

import numpy as np
import pandas as pd

from bnrepro.analysis import statistics
from bnrepro.analysis.effects.runs import at_best_rates, best_rates, finals
from bnrepro.analysis.frame import CHANCE, MissingData

CELL = ["data.batch_size"]
GHOST = 16  # the size of Ghost BN's groups: a batch no larger is one group, which is BN itself
METHODS = {
    "baseline": "without BN",
    "bn": "BN, moving averages",
    "bn_exact": "BN, exact statistics",  # the same nets as bn, judged by Algorithm 2
    "bn_renorm": "Batch Renormalization",
    "bn_ghost": "Ghost BN",
    "groupnorm": "GroupNorm",
    "layernorm": "LayerNorm",
    "weightnorm": "WeightNorm",
}


def accuracies(frame: pd.DataFrame) -> pd.DataFrame:
    """Final test accuracy at the best rate. Index: data.batch_size, seed; columns: those of METHODS that ran.

    bn is judged with its moving averages, bn_exact is the same nets with population statistics.
    """
    frame = at_best_rates(frame, CELL)
    table = finals(frame, "test/accuracy", CELL)
    if (frame["name"] == "test/accuracy_population").any():
        exact = finals(frame, "test/accuracy_population", CELL)
        if "bn" in exact:
            table["bn_exact"] = exact["bn"]
            lost = table["bn_exact"].isna() & diverged(frame)["bn"]
            table.loc[lost, "bn_exact"] = CHANCE  # a run that failed has perhaps no row of it at all
    return table[[method for method in METHODS if method in table]]


def diverged(frame: pd.DataFrame) -> pd.DataFrame:
    """Whether the run at the best rate diverged. Index: data.batch_size, seed; columns: variant, and bn_exact = bn."""
    ran = finals(at_best_rates(frame, CELL), "test/accuracy", CELL, failed=-np.inf)
    lost = ran == -np.inf
    return lost.assign(bn_exact=lost["bn"]) if "bn" in lost else lost


def rates(frame: pd.DataFrame) -> pd.DataFrame:
    """The rate at batch 60 that each method (column) has at each batch size (index)."""
    table = best_rates(frame, CELL).unstack("variant")
    return table[[method for method in METHODS if method in table]]


def shown_rates(frame: pd.DataFrame) -> pd.DataFrame:
    """`rates` in words; * marks an end of the grid, beyond which there may be a better one."""
    table, offered = rates(frame), sorted(frame["optim.lr"].unique())
    ends = (offered[0], offered[-1])
    words = table.map(lambda rate: f"{rate:g}{' *' if rate in ends else ''}", na_action="ignore").fillna("–")
    return words.rename(columns=METHODS).rename_axis(index="batch size", columns=None)


def errors_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Final test error, a row per batch size and method: mean over seeds, a diverged seed at 90%."""
    every, lost, own = accuracies(frame), diverged(frame), rates(frame)
    rows = []
    for size, at_size in every.groupby(level="data.batch_size"):
        for method in every:
            values = at_size[method].dropna()
            if len(values):
                failures = int(lost.loc[values.index, method].sum())
                rate = own.loc[size, "bn" if method == "bn_exact" else method]
                names = (size, METHODS[method], f"{rate:g}", f"{failures}/{len(values)}")
                rows.append((*names, "accuracy", *statistics.estimate(1 - values)))
    columns = ["batch size", "test error of", "rate at 60", "diverged", "unit", "value", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def differences(frame: pd.DataFrame, against: str = "bn") -> pd.DataFrame:
    """Final test accuracy minus that of `against` (a key of METHODS), paired by seed; positive: better.

    Holm's correction over all rows. Ghost BN against BN is left out where the batch is one group (m <= 16):
    there the two are the same net, not a comparison.
    """
    every = accuracies(frame)
    if against not in every:
        raise MissingData(f"no runs of {against}")
    rows = []
    for size, at_size in every.droplevel("data.batch_size").groupby(every.index.get_level_values(0)):
        for method in every.columns.drop(against):
            same = {method, against} == {"bn", "bn_ghost"} and size <= GHOST
            pair = at_size[[method, against]].dropna()
            if len(pair) and not same:
                names = {"batch size": size, "method": METHODS[method], "minus": METHODS[against]}
                rows.append({**names, "unit": "points", **statistics.paired(pair[method], pair[against])})
    return statistics.corrected(rows)
