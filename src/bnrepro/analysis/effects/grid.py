"""The grid of the design: which effects on accuracy are BN's, which the learning rate's, which the training time's.

Every difference is taken seed by seed. A run whose loss was not finite counts as chance.
"""

import numpy as np
import pandas as pd

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import statistics
from bnrepro.analysis.effects.runs import at_best_rates, best_rates, last
from bnrepro.analysis.frame import MissingData

MEETS = 60  # the batch size at which the constant and the linear rule give the same rate
RATE = 0.1  # at that batch size, of both rules
PLACE = ["model.activation", "model.dropout", "data.batch_size"]
CELL = ["model.activation", "model.dropout", "rule", "data.batch_size"]
RULES = {
    "constant": "constant",
    "linear": "linear",
    "own": "its own best",
}  # what a frame's column `rule` may say
EFFECTS = {  # name: column, the level subtracted, the other level
    "BN": ("variant", "baseline", "bn"),
    "linear rate": ("rule", "constant", "linear"),
    "best rate": ("rule", "linear", "own"),
    "dropout": ("model.dropout", 0.0, 0.5),
    "ReLU": ("model.activation", "sigmoid", "relu"),
}
SPANS = {  # constant and linear rates differ in opposite directions on the two sides of MEETS
    "all": lambda m: m > 0,
    f"below {MEETS}": lambda m: m < MEETS,
    f"above {MEETS}": lambda m: m > MEETS,
}
TIMES = (0.05, 0.25, 1.0)  # shares of the training at which the effects are looked at: 1, 5 and 20 epochs


def by_rule(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs under each rule for the rate, named by a column `rule`; a run that is under two rules is there twice.

    constant: RATE whatever the batch size. linear: RATE * batch / MEETS; both are one run at MEETS. own: each
    cell's and arm's best of the rates tried, chosen by accuracy on held-out images. Raises MissingData without those.
    """
    if tidy.accuracy_name(frame) != "val/accuracy":
        raise MissingData("no rows of val/accuracy: rates are chosen on held-out images")
    tidy.need_columns(frame, [*PLACE, "optim.batch_rule", "optim.lr"])
    linear = frame[frame["optim.batch_rule"] == "linear"]
    at_rate = linear[linear["optim.lr"] == RATE]
    constant = frame[_constant(frame) & (frame["optim.lr"] == RATE)]
    if absent := [name for name, rows in (("linear", at_rate), ("constant", constant)) if rows.empty]:
        raise MissingData(f"no runs at a {' or '.join(absent)} rate of {RATE:g}")
    constant = pd.concat([constant, at_rate[at_rate["data.batch_size"] == MEETS]])
    runs = {"constant": constant, "linear": at_rate, "own": at_best_rates(tried(frame), PLACE)}
    return pd.concat([rows.assign(rule=rule) for rule, rows in runs.items()], ignore_index=True)


def tried(frame: pd.DataFrame) -> pd.DataFrame:
    """All runs, each once, with the rate that they were trained at as optim.lr."""
    linear = frame["optim.batch_rule"] == "linear"
    scale = np.where(linear, frame["data.batch_size"] / MEETS, 1.0)
    return frame.assign(**{"optim.lr": frame["optim.lr"] * scale})[linear | _constant(frame)]


def _constant(frame: pd.DataFrame) -> pd.Series:
    """At MEETS a run at the constant rate would be one at the linear rate, trained twice."""
    return (frame["optim.batch_rule"] == "constant") & (frame["data.batch_size"] != MEETS)


def rates(frame: pd.DataFrame) -> pd.DataFrame:
    """The best rate of each cell and arm, in words; * marks the lowest or highest tried: better may lie beyond."""
    runs = tried(frame)
    ends = runs.groupby("data.batch_size")["optim.lr"].agg(["min", "max"])
    table = best_rates(runs, PLACE).unstack("data.batch_size")
    words = {
        batch: [f"{rate:.2g}{' *' if rate in set(ends.loc[batch]) else ''}" for rate in column]
        for batch, column in table.items()
    }
    return pd.DataFrame(words, table.index).rename_axis(columns="batch size")


def upto(frame: pd.DataFrame, share: float) -> pd.DataFrame:
    """What had been measured of each run after this share of its steps."""
    return frame[frame["step"] <= 1.01 * share * frame["train.steps"]]  # evaluations lie at whole steps


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


def by_cell(runs: pd.DataFrame, effect: str = "BN", name: str = "test/accuracy") -> pd.DataFrame:
    """One row a cell of `by_rule`: mean paired difference, its interval, the paired t-test's p (Holm over the cells).

    What is the same run is no comparison, or the same one twice, and left out: constant beside linear at batch size 60,
    and a best rate that is the linear one.
    """
    found = difference(last(runs, name, CELL), effect)
    meets = found.index.get_level_values("data.batch_size") == MEETS
    if effect == "linear rate":
        found = found[~meets]
    elif effect != "best rate":
        found = found[~(meets & (found.index.get_level_values("rule") == "constant"))]
    names = [level for level in found.index.names if level != "seed"]
    heads = [name.split(".")[-1].replace("_", " ") for name in names]
    return statistics.corrected(
        [
            {**dict(zip(heads, cell, strict=True)), "unit": "points", **statistics.paired(seeds)}
            for cell, seeds in found.groupby(level=names, sort=True)
            if effect != "best rate" or seeds.any()
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


def main_effects(runs: pd.DataFrame, name: str = "test/accuracy") -> pd.DataFrame:
    """Factorial main effects and BN's interactions at the last step, each averaged over the complete cells of a seed.

    An interaction is BN's effect at the factor's second level - BN's effect at its first. Rows "per
    doubling": least-squares slope of accuracy over log2 of the batch size.
    """
    values = balanced(last(runs, name, CELL))
    bn = difference(values, "BN")
    rows = []
    for rule, words in RULES.items():
        rows.append((f"BN, rate {words}", "all", _per_seed(bn.xs(rule, level="rule"), "all")))
    for effect in list(EFFECTS)[1:]:
        single = difference(values, effect)
        rows += [(effect, span, _per_seed(single, span)) for span in _spans(effect)]
    for effect in list(EFFECTS)[1:]:
        both = difference(bn, effect)
        rows += [(f"BN x {effect}", span, _per_seed(both, span)) for span in _spans(effect)]
    for rule, arm in [(rule, arm) for rule in RULES for arm in ("baseline", "bn")]:
        words = f"batch size, {'with' if arm == 'bn' else 'without'} BN, rate {RULES[rule]}"
        rows.append((words, "per doubling", _slopes(values, rule, arm)))
    if (runs["name"] == f"{name}_population").any():
        exact = last(runs, f"{name}_population", CELL)
        change = (exact - last(runs, name, CELL).reindex(exact.index)).dropna()
        for span in SPANS:
            rows.append(("BN's statistics, exact - moving averages", span, _per_seed(change, span)))
    return statistics.corrected(
        [
            {"effect": effect, "batch sizes": span, "unit": "points", **statistics.paired(seeds)}
            for effect, span, seeds in rows
            if len(seeds)
        ]
    )


def where_all_learn(runs: pd.DataFrame, name: str = "test/accuracy", enough: float = 0.5) -> pd.DataFrame:
    """BN's effect under each rule, over all cells and over those in which every run has `enough` accuracy.

    A cell in which nets diverge or hardly train weighs as much in a mean as hundreds that differ by tenths of a point.
    Which cells are left out is read off the results: a look at what makes a mean, not an effect of its own.
    """
    values = balanced(last(runs, name, CELL))
    cell = [level for level in values.index.names if level not in ("variant", "seed")]
    learns = values.groupby(cell).min() >= enough
    bn, rows = difference(values, "BN"), []
    all_learn = bn[learns.reindex(bn.index.droplevel("seed")).to_numpy()]
    for rule, words in RULES.items():
        for which, found in (("all", bn), (f"every run at least {enough:.0%}", all_learn)):
            seeds = found.xs(rule, level="rule")
            counted = len(seeds.groupby([level for level in cell if level != "rule"]))
            head = {"effect": f"BN, rate {words}", "cells": f"{which} ({counted})", "unit": "points"}
            rows.append(head | statistics.paired(_per_seed(seeds, "all")))
    return statistics.corrected(rows)


def over_time(runs: pd.DataFrame) -> pd.DataFrame:
    """What is left of the effects when training goes on: BN's, and the batch size's, at each of TIMES and each rule.

    On held-out images, which are looked at all along. The own rate is the best at the end on the same images, which
    flatters it by a little: what it is worth is said by `main_effects`, on the test set.
    """
    rows = []
    for share in TIMES:
        values = balanced(last(upto(runs, share), tidy.accuracy_name(runs), CELL))
        seen = f"{share * examples(runs):,.0f}"
        bn = difference(values, "BN")
        for rule, words in RULES.items():
            rows.append(("BN", words, seen, _per_seed(bn.xs(rule, level="rule"), "all")))
            for arm, which in (("baseline", "without BN"), ("bn", "with BN")):
                rows.append((f"a doubling of the batch, {which}", words, seen, _slopes(values, rule, arm)))
    table = pd.DataFrame(
        [
            {
                "effect": effect,
                "rate": rule,
                "examples seen": seen,
                "unit": "points",
                **statistics.paired(seeds),
            }
            for effect, rule, seen, seeds in rows
        ]
    )
    order = table.assign(at=np.arange(len(table))).sort_values(["effect", "rate", "at"], key=_as_listed)
    return statistics.corrected(order.drop(columns="at").to_dict("records"))


def examples(frame: pd.DataFrame) -> float:
    """How many training examples each run has seen at its end, to a thousand."""
    return float(np.round((frame["data.batch_size"] * frame["train.steps"]).median(), -3))


def _as_listed(column: pd.Series) -> pd.Series:
    return column.map({word: place for place, word in enumerate(dict.fromkeys(column))})


def _slopes(values: pd.Series, rule: str, arm: str) -> pd.Series:
    curve = values.xs(rule, level="rule").xs(arm, level="variant")
    return slope(curve.groupby(level=["seed", "data.batch_size"]).mean().unstack("data.batch_size"))


def _spans(effect: str) -> list[str]:
    """The linear rule's effect changes its sign at MEETS (a lower rate below, a higher one above): no mean."""
    return list(SPANS)[1:] if effect == "linear rate" else ["all"]


def _per_seed(found: pd.Series, span: str) -> pd.Series:
    inside = SPANS[span](found.index.get_level_values("data.batch_size").to_numpy())
    return found[inside].groupby(level="seed").mean()
