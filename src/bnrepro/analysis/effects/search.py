"""What Inception and its variants come to at each rate, or scale of the initial weights, that was searched."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import statistics
from bnrepro.analysis.effects import imagenet
from bnrepro.analysis.report import format_interval

RATE = "optim.lr"
SCALE = "model.init_scale"
TIE = 0.01  # of accuracy: means of two seeds that are no farther apart cannot be told apart


def searched(frame: pd.DataFrame, settings: Sequence[str] = (RATE,)) -> pd.Series:
    """Mean accuracy of the evaluations in the last third of the steps, by (variant, *settings, seed).

    On held-out images if there are any; BN as in `imagenet.by_population`. An evaluation that a run did not come to,
    since its loss was not finite, counts as chance. Raises MissingData where a setting is no column of the frame,
    ValueError where runs are of several lengths.
    """
    tidy.need_columns(frame, ["variant", "seed", *settings, "train.steps"])
    lengths = sorted(frame["train.steps"].unique())
    if len(lengths) > 1:
        raise ValueError(f"train.steps is {', '.join(map(str, lengths))}: select one with frame.query(...)")
    rows = imagenet.by_population(frame)
    rows = rows[rows["name"] == tidy.accuracy_name(frame)]
    curves = rows.pivot(index=["variant", *settings, "seed"], columns="step", values="value")
    late = curves.loc[:, curves.columns > 2 * lengths[0] / 3]
    return late.fillna(imagenet.chance(frame)).mean(axis=1)


def base_rate(values: pd.Series, usual: float) -> float:
    """The rate at which Inception has the highest mean over seeds; `usual` if that comes within TIE of it.

    values: of `searched`, by rate.
    """
    means = values[imagenet.BASELINE].groupby(RATE).mean()
    tied = usual in means and means.max() - means[usual] <= TIE + 1e-9
    return usual if tied else float(means.idxmax())


def search_table(frame: pd.DataFrame, scales: bool = False) -> pd.DataFrame:
    """A row per net, a column per rate, in words: the mean over seeds with its t interval, or of two seeds with both.

    Rates are those of Inception: a variant with a multiple of it trains at that multiple. With `scales` rows are of
    scales of the initial weights. Bold: each net's highest mean, unless all are equal.
    """
    others = [SCALE] if scales else []
    values = searched(frame, [*others, RATE])
    means = values.groupby(["variant", *others, RATE]).mean()
    rates = sorted(means.index.unique(RATE))
    rows = []
    for variant in imagenet.nets(frame):
        best, flat = means[variant].max(), np.allclose(means[variant], means[variant].iloc[0])
        for scale in means[variant].index.unique(SCALE) if scales else [None]:
            row = {"net": imagenet.NETS[variant]}
            if scale is not None:
                row["initial weights"] = f"{scale:g} × N(0, 1 / fan_in)"
            for rate in rates:
                place = (variant, rate) if scale is None else (variant, scale, rate)
                said = _in_words(values[place]) if place in means.index else "–"
                bold = place in means.index and not flat and np.isclose(means[place], best)
                row[f"rate {rate:g}" if scales else f"base rate {rate:g}"] = f"**{said}**" if bold else said
            rows.append(row)
    return pd.DataFrame(rows)


def _in_words(seeds: pd.Series) -> str:
    value, low, high, n = statistics.estimate(seeds)
    if n > 2:
        return format_interval("accuracy", value, low, high)
    each = f" ({', '.join(f'{100 * seed:.1f}' for seed in seeds)})" if n == 2 else ""
    return format_interval("accuracy", value) + each
