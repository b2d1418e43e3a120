"""Where BN stands and what it carries: a 2 x 2 x 2 factorial of placement, gamma/beta and bias.

With BN before the nonlinearity the bias is redundant (the mean is subtracted), with BN after it the bias is
not: that is the interaction of placement and bias. Each activation has a factorial of its own.
"""

from itertools import combinations

import numpy as np
import pandas as pd

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import statistics
from bnrepro.analysis.effects.runs import finals
from bnrepro.analysis.frame import MissingData

FACTORS = {  # column: (level counted +, level counted -), words for "+ minus -"
    "model.placement": (("after", "before"), "BN after - before"),
    "model.affine": (("True", "False"), "gamma, beta: with - without"),
    "model.bias": (("on", "off"), "bias: on - off"),
}
SHORT = {"model.placement": "placement", "model.affine": "gamma, beta", "model.bias": "bias"}


def cells(frame: pd.DataFrame, name: str = "test/accuracy") -> pd.DataFrame:
    """Final accuracy of BN. Index: model.activation, seed; columns: levels of FACTORS; NaN: nothing ran."""
    bn = frame[frame["variant"] == "bn"]
    tidy.need_columns(bn, FACTORS)
    words = {column: bn[column].astype(str) for column in FACTORS}
    words["model.bias"] = words["model.bias"].replace({"True": "on", "False": "off"})  # YAML's on and off
    table = finals(bn.assign(**words), name, ["model.activation", *FACTORS])["bn"].unstack(list(FACTORS))
    every = pd.MultiIndex.from_product([levels for levels, _ in FACTORS.values()], names=list(FACTORS))
    return table.reindex(columns=every)


def baselines(frame: pd.DataFrame) -> pd.Series:
    """Final accuracy without BN. Index: model.activation, seed."""
    rows = frame[frame["variant"] == "baseline"]
    if rows.empty:
        raise MissingData("no variant named baseline")
    return finals(rows, "test/accuracy", ["model.activation"])["baseline"]


def effects_table(frame: pd.DataFrame, name: str = "test/accuracy") -> pd.DataFrame:
    """Main effects and two-way interactions in accuracy, per activation; Holm's correction over all rows.

    Main effect: mean over the other factors of (+ level minus - level), by seed. Interaction of A and B: the
    effect of A at B's + level minus the effect of A at B's - level. A missing run leaves its seed no number.
    """
    table = cells(frame, name)
    sign = {
        f: np.where(table.columns.get_level_values(f) == plus, 1, -1) for f, ((plus, _), _) in FACTORS.items()
    }
    effects = {words: sign[factor] for factor, (_, words) in FACTORS.items()}
    effects |= {f"{SHORT[a]} × {SHORT[b]}": sign[a] * sign[b] * 2 for a, b in combinations(FACTORS, 2)}
    rows = []
    for activation, values in table.groupby(level="model.activation"):
        values = values.droplevel("model.activation")
        for effect, weights in effects.items():
            by_seed = (values * weights / 4).sum(axis=1, skipna=False)
            names = {"activation": activation, "effect": effect}
            rows.append({**names, "unit": "points", **statistics.paired(by_seed)})
    return statistics.corrected(rows)


def gains_table(frame: pd.DataFrame, name: str = "test/accuracy") -> pd.DataFrame:
    """Each of the eight nets with BN minus the one without, in accuracy; Holm's correction over all rows."""
    table, without = cells(frame, name), baselines(frame)
    rows = []
    for activation, values in table.groupby(level="model.activation"):
        if activation not in without.index.get_level_values(0):
            raise MissingData(f"no baseline with {activation}")
        for levels in table:
            placement, affine, bias = levels
            names = {
                "activation": activation,
                "BN": placement,
                "gamma, beta": "with" if affine == "True" else "without",
                "bias": bias,
            }
            one = values[levels].droplevel("model.activation")
            rows.append(
                {
                    **names,
                    "unit": "points",
                    **statistics.paired(one, without.loc[activation].reindex(one.index)),
                }
            )
    return statistics.corrected(rows)
