"""Small batches and the alternatives to BN: final accuracy by batch size, and paired differences."""

import numpy as np
import pandas as pd

from bnrepro.analysis import statistics
from bnrepro.analysis.effects.runs import finals
from bnrepro.analysis.frame import CHANCE, MissingData

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
    """Final test accuracy. Index: data.batch_size, seed; columns: those of METHODS that ran.

    bn is judged with its moving averages, bn_exact is the same nets with population statistics.
    """
    cell = ["data.batch_size"]
    table = finals(frame, "test/accuracy", cell)
    if (frame["name"] == "test/accuracy_population").any():
        exact = finals(frame, "test/accuracy_population", cell)
        if "bn" in exact:
            table["bn_exact"] = exact["bn"]
            lost = table["bn_exact"].isna() & diverged(frame)["bn"]
            table.loc[lost, "bn_exact"] = CHANCE  # a run that failed has perhaps no row of it at all
    return table[[method for method in METHODS if method in table]]


def diverged(frame: pd.DataFrame) -> pd.DataFrame:
    """Whether the run diverged. Index: data.batch_size, seed; columns: variant, and bn_exact = bn."""
    ran = finals(frame, "test/accuracy", ["data.batch_size"], failed=-np.inf)
    lost = ran == -np.inf
    return lost.assign(bn_exact=lost["bn"]) if "bn" in lost else lost


def errors_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Final test error, a row per batch size and method: mean over seeds, a diverged seed at 90%."""
    every, lost = accuracies(frame), diverged(frame)
    rows = []
    for size, at_size in every.groupby(level="data.batch_size"):
        for method in every:
            values = at_size[method].dropna()
            if len(values):
                failures = int(lost.loc[values.index, method].sum())
                names = (size, METHODS[method], f"{failures}/{len(values)}")
                rows.append((*names, "accuracy", *statistics.estimate(1 - values)))
    columns = ["batch size", "test error of", "diverged", "unit", "value", "low", "high", "n"]
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
