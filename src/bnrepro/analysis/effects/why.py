"""Why it works: covariate shift, landscape, gradients, Jacobians and saturated units, with BN and without.

One number a run: the mean over layers at each measured step, then over training by time. Steps without a
number (the cosine of a zero gradient) are left out; a run that has fewer than two steps left is NaN, and so
is every comparison with it. Arms are compared seed by seed within a nonlinearity and depth.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import statistics
from bnrepro.analysis.effects.runs import last
from bnrepro.analysis.frame import MissingData
from bnrepro.analysis.statistics import Interval

CELL = ["model.activation", "model.depth"]
RUN = [*CELL, "variant", "seed"]
OTHERS = ("bn", "bn_noisy")  # each against the baseline


class Quantity(NamedTuple):
    unit: str  # ratio: of the arms; else their difference
    at_steps: Callable[[pd.DataFrame], pd.Series]  # wide table -> a number for each run and step


def wide(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per run and step, indexed by (activation, depth, variant, seed, step); one column per name.

    Steps without diagnostics are left out.
    """
    tidy.need_columns(frame, CELL)
    rows = frame[
        frame["name"].str.contains(r"^(?:ics|ics_next|landscape|gradient|jacobian|jacobian_linear|units)/")
    ]
    if rows.empty:
        raise MissingData("no diagnostics")
    if rows.duplicated([*RUN, "step", "name"]).any():
        raise ValueError(f"several runs per ({', '.join(RUN)}); select one with frame.query(...)")
    return rows.pivot(index=[*RUN, "step"], columns="name", values="value").sort_index()


def layers(table: pd.DataFrame, family: str, what: str) -> pd.DataFrame:
    """The columns <family>/<layer>/<what>, named by layer from 1 on; the classifier is depth + 1."""
    found = table.filter(regex=rf"^{family}/hidden\d+/{what}$")
    found = found.set_axis(found.columns.str.extract(r"hidden(\d+)", expand=False).astype(int), axis=1)
    end = f"{family}/classifier/{what}"
    if end in table:
        depth = table.index.get_level_values("model.depth").to_numpy()
        found = found.reindex(columns=range(1, depth.max() + 2))
        found = found.where(found.columns.to_numpy() != depth[:, None] + 1, table[end], axis=0)
    if found.empty or found.shape[1] == 0:
        raise MissingData(f"no rows named {family}/.../{what}")
    return found.sort_index(axis=1)


def mean_over_layers(family: str, what: str) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda table: layers(table, family, what).mean(axis=1)


def _relative_shift(table: pd.DataFrame) -> pd.Series:
    return (layers(table, "ics", "l2") / layers(table, "gradient", "norm")).mean(axis=1)


def _loss_range(table: pd.DataFrame) -> pd.Series:
    return table["landscape/loss_high"] - table["landscape/loss_low"]


def _relative_change(table: pd.DataFrame) -> pd.Series:
    return table["landscape/gradient_change"] / table["landscape/gradient_norm"]


def _fading(table: pd.DataFrame) -> pd.Series:
    """log10 of the gradient norm of the last hidden layer over that of the second one.

    From the second: the first has 784 inputs, all others have the hidden layers' width.
    """
    norm = layers(table, "gradient", "norm")
    depth = table.index.get_level_values("model.depth").to_numpy()
    ratio = norm.where(norm.columns.to_numpy() == depth[:, None]).max(axis=1) / norm[2]
    return np.log10(ratio.where((ratio > 0) & np.isfinite(ratio)))


def _gain_from_one(table: pd.DataFrame) -> pd.Series:
    """|log10 of the gain|, mean over layers: of a gradient that passes a layer backwards. A dead layer has none."""
    gain = layers(table, "jacobian", "gain")
    return np.log10(gain.where(gain > 0)).abs().mean(axis=1)


SHIFT = {
    "covariate shift ‖G - G'‖": Quantity("ratio", mean_over_layers("ics", "l2")),
    "covariate shift ‖G - G'‖ / ‖G‖": Quantity("ratio", _relative_shift),
    "cosine of G and G'": Quantity("number", mean_over_layers("ics", "cosine")),
    "‖G - G'‖ on the next batch": Quantity("ratio", mean_over_layers("ics_next", "l2")),
    "cosine on the next batch": Quantity("number", mean_over_layers("ics_next", "cosine")),
}
LANDSCAPE = {
    "range of the loss along the gradient": Quantity("ratio", _loss_range),
    "change of the gradient": Quantity("ratio", lambda table: table["landscape/gradient_change"]),
    "change of the gradient / its norm": Quantity("ratio", _relative_change),
    "effective smoothness": Quantity("ratio", lambda table: table["landscape/smoothness"]),
}
LAYERS = {  # of singular values s in active directions: mean |log10 s|, standard deviation of log10 s
    "decades from 1, before the nonlinearity": Quantity(
        "number", mean_over_layers("jacobian_linear", "from_one")
    ),
    "decades from 1, after the nonlinearity": Quantity("number", mean_over_layers("jacobian", "from_one")),
    "spread in decades, before the nonlinearity": Quantity(
        "number", mean_over_layers("jacobian_linear", "log_spread")
    ),
    "spread in decades, after the nonlinearity": Quantity(
        "number", mean_over_layers("jacobian", "log_spread")
    ),
    "gain in decades from 1, after the nonlinearity": Quantity("number", _gain_from_one),
    "gradient norm, log10 (last / second hidden layer)": Quantity("number", _fading),
    "saturated (example, unit) pairs": Quantity("points", mean_over_layers("units", "saturated")),
    "dead units": Quantity("points", mean_over_layers("units", "dead")),
}


def over_training(table: pd.DataFrame, quantity: Quantity) -> pd.Series:
    """The mean over training (by time) of each run, indexed by (activation, depth, variant, seed)."""

    def mean(steps: pd.Series) -> float:
        steps = steps.replace([np.inf, -np.inf], np.nan).droplevel(RUN).dropna()
        return float(tidy.mean_over_time(steps)) if len(steps) > 1 else np.nan

    return quantity.at_steps(table).groupby(level=RUN).agg(mean)


def compared(
    table: pd.DataFrame, quantity: Quantity, arm: str = "bn"
) -> Iterator[tuple[tuple, Interval, float]]:
    """((activation, depth), effect of `arm` against the baseline, p) for every nonlinearity and depth.

    Ratios: the median over seeds of arm / baseline. Others: the mean over seeds of arm - baseline. p: paired
    t-test, of the logarithms for ratios.
    """
    averages = over_training(table, quantity)
    for cell, runs in averages.groupby(level=CELL):
        if absent := {arm, "baseline"} - set(runs.index.get_level_values("variant")):
            raise MissingData(f"no variant named {' or '.join(sorted(absent))} with {cell}")
        a, b = (runs.xs((*cell, variant), level=[*CELL, "variant"]) for variant in (arm, "baseline"))
        if quantity.unit == "ratio":
            effect = statistics.compared(a, b, "median", combine=np.divide)
            with np.errstate(divide="ignore", invalid="ignore"):
                a, b = np.log(a), np.log(b)
        else:
            effect = statistics.compared(a, b)
        yield cell, effect, statistics.p_value(a - b)


def effects_table(frame: pd.DataFrame, quantities: dict[str, Quantity]) -> pd.DataFrame:
    """A row per quantity, nonlinearity, depth and arm beside the baseline; Holm over all rows."""
    table, rows = wide(frame), []
    arms = [arm for arm in OTHERS if arm in table.index.get_level_values("variant")]
    for words, quantity in quantities.items():
        sign = "/" if quantity.unit == "ratio" else "-"
        unit = "number" if quantity.unit == "ratio" else quantity.unit  # ratios here span many decades
        for arm in arms:
            for (activation, depth), effect, p in compared(table, quantity, arm):
                cell = {"quantity": words, "activation": activation, "depth": depth}
                arms_of = f"{arm} {sign} baseline"
                rows.append({**cell, "arms": arms_of, "unit": unit, **effect._asdict(), "p": p})
    return statistics.corrected(rows)


def accuracy_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracy at the last step, a row per nonlinearity, depth and arm: how far each net has come.

    A run that diverged counts as guessing.
    """
    accuracy = last(frame, tidy.accuracy_name(frame), CELL)
    rows = [
        (*cell, "accuracy", *statistics.estimate(seeds))
        for cell, seeds in accuracy.groupby([*CELL, "variant"])
    ]
    return pd.DataFrame(rows, columns=["activation", "depth", "arm", "unit", "value", "low", "high", "n"])
