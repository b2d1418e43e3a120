"""The grid of the design: which effects on accuracy are BN's, which the learning rate's, which dropout's.

Every difference is taken seed by seed at the last step. A run whose loss was not finite counts as chance.
"""

import numpy as np
import pandas as pd

from bnrepro.analysis import statistics
from bnrepro.analysis.effects.runs import last
from bnrepro.analysis.frame import MissingData

MEETS = 60  # the batch size at which both rate rules give the same rate
CELL = ["model.activation", "model.dropout", "optim.batch_rule", "data.batch_size"]
EFFECTS = {  # name: column, the level subtracted, the other level
    "BN": ("variant", "baseline", "bn"),
    "linear rate": ("optim.batch_rule", "constant", "linear"),
    "dropout": ("model.dropout", 0.0, 0.5),
    "ReLU": ("model.activation", "sigmoid", "relu"),
}
SPANS = {  # the rules differ in opposite directions on the two sides of MEETS
    "all": lambda m: m > 0,
    f"below {MEETS}": lambda m: m < MEETS,
    f"above {MEETS}": lambda m: m > MEETS,
}


def difference(values: pd.Series, effect: str) -> pd.Series:
    """The effect's second level - its first, in each cell and seed that has both; seeds must be paired."""
    column, low, high = EFFECTS[effect]
    if absent := {low, high} - set(values.index.get_level_values(column)):
        raise MissingData(f"no runs with {column} = {' or '.join(map(str, sorted(absent)))}")
    both = values.xs(high, level=column) - values.xs(low, level=column)
    others = [name for name in both.index.names if name != "seed"]
    unpaired = both.isna().groupby(level=others).nunique() > 1
    if unpaired.any():
        raise ValueError(f"not paired: {effect} has seeds with one level only in {unpaired.idxmax()}")
    return both.dropna()


def by_cell(frame: pd.DataFrame, effect: str = "BN", name: str = "test/accuracy") -> pd.DataFrame:
    """One row a cell: mean paired difference, its interval, and the paired t-test's p (Holm over the cells).

    The rate rules are the same run at batch size 60: that is no comparison, and left out.
    """
    found = difference(last(frame, name, CELL), effect)
    if effect == "linear rate":
        found = found[found.index.get_level_values("data.batch_size") != MEETS]
    names = [level for level in found.index.names if level != "seed"]
    heads = [name.split(".")[-1].replace("_", " ") for name in names]
    return statistics.corrected(
        [
            {**dict(zip(heads, cell, strict=True)), "unit": "points", **statistics.paired(seeds)}
            for cell, seeds in found.groupby(level=names, sort=True)
        ]
    )


def balanced(values: pd.Series) -> pd.Series:
    """The batch sizes at which the factorial is complete: every combination of levels with every seed."""
    table = values.unstack("data.batch_size")
    table = table.reindex(pd.MultiIndex.from_product(list(table.index.levels))).dropna(axis=1)
    if table.empty:
        raise MissingData("no batch size has every combination of the other factors")
    return table.stack()


def slope(table: pd.DataFrame) -> pd.Series:
    """Per row, the least-squares change of the value per doubling of the column (a batch size)."""
    doublings = np.log2(table.columns.to_numpy(dtype=float))
    return pd.Series(np.polyfit(doublings, table.to_numpy().T, 1)[0], table.index)


def main_effects(frame: pd.DataFrame, name: str = "test/accuracy") -> pd.DataFrame:
    """Factorial main effects and BN's interactions, each averaged over the complete cells of a seed.

    An interaction is BN's effect at the factor's second level - BN's effect at its first. Rows "per
    doubling": least-squares slope of accuracy over log2 of the batch size.
    """
    values = balanced(last(frame, name, CELL))
    bn = difference(values, "BN")
    rows = []
    for effect in EFFECTS:
        single = difference(values, effect)
        rows += [(effect, span, _per_seed(single, span)) for span in _spans(effect)]
    for effect in ("linear rate", "dropout", "ReLU"):
        both = difference(bn, effect)
        rows += [(f"BN x {effect}", span, _per_seed(both, span)) for span in _spans(effect)]
    for rule in ("constant", "linear"):
        for arm, words in (("baseline", "without BN"), ("bn", "with BN")):
            curve = values.xs(rule, level="optim.batch_rule").xs(arm, level="variant")
            table = curve.groupby(level=["seed", "data.batch_size"]).mean().unstack("data.batch_size")
            rows.append((f"batch size, {words}, {rule} rate", "per doubling", slope(table)))
    if (frame["name"] == f"{name}_population").any():
        exact = last(frame, f"{name}_population", CELL)
        change = (exact - last(frame, name, CELL).reindex(exact.index)).dropna()
        for span in SPANS:
            rows.append(("BN's statistics, exact - moving averages", span, _per_seed(change, span)))
    return statistics.corrected(
        [
            {"effect": effect, "batch sizes": span, "unit": "points", **statistics.paired(seeds)}
            for effect, span, seeds in rows
            if len(seeds)
        ]
    )


def _spans(effect: str) -> list[str]:
    """The rate rule's effect changes its sign at MEETS (a lower rate below, a higher one above): no mean."""
    return {"BN": list(SPANS), "linear rate": list(SPANS)[1:]}.get(effect, ["all"])


def _per_seed(found: pd.Series, span: str) -> pd.Series:
    inside = SPANS[span](found.index.get_level_values("data.batch_size").to_numpy())
    return found[inside].groupby(level="seed").mean()
