"""What Inception and its variants come to at each rate, or scale of the initial weights, that was searched."""

from collections.abc import Sequence

import pandas as pd

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import statistics
from bnrepro.analysis.effects import imagenet
from bnrepro.analysis.report import format_interval

RATE = "optim.lr"
SCALE = "model.init_scale"
TIE = 0.01  # of accuracy: means of two seeds that are closer cannot be told apart


def searched(frame: pd.DataFrame, settings: Sequence[str]) -> pd.Series:
    """Mean accuracy of the evaluations in the last third of the steps, by (variant, *settings, seed).

    On held-out images if there are any; BN as in `imagenet.by_population`. An evaluation that a run did not come to,
    since its loss was not finite, counts as chance. Raises MissingData where a setting is no column of the frame.
    """
    tidy.need_columns(frame, ["variant", "seed", *settings, "train.steps"])
    rows, floor, found = imagenet.by_population(frame), imagenet.chance(frame), {}
    at = sorted(step for step in rows["step"].unique() if step > 2 * rows["train.steps"].max() / 3)
    for place, run in rows.groupby(["variant", *settings, "seed"]):
        curve = tidy.curves(run, tidy.accuracy_name(frame)).iloc[:, 0]
        found[place] = curve.reindex(at).fillna(floor).mean()
    index = pd.MultiIndex.from_tuples(found, names=["variant", *settings, "seed"])
    return pd.Series(list(found.values()), index)


def chosen(values: pd.Series, usual: float) -> pd.Series:
    """The rate with the highest mean over seeds, by variant; `usual` where its mean is closer to that than TIE.

    values: of `searched`, by rate alone.
    """
    means = values.groupby(["variant", RATE]).mean().unstack(RATE)
    best = means.idxmax(axis=1)
    tied = means.max(axis=1) - means.get(usual, float("-inf")) < TIE
    return best.mask(tied, usual)


def search_table(frame: pd.DataFrame, scales: bool = False) -> pd.DataFrame:
    """A row per net (and scale of its initial weights), a column per rate, in words. Bold: the row's highest mean.

    The mean over seeds with its t interval; of two seeds the mean and both. Rates are those of `optim.lr`, before a
    variant's own multiple.
    """
    others = [SCALE] if scales else []
    values, rows = searched(frame, [*others, RATE]), []
    for (variant, *scale), mine in values.groupby(["variant", *others]):
        words, means = {"net": imagenet.NETS[variant]}, mine.groupby(RATE).mean()
        if scales:
            words["initial weights"] = f"{scale[0]:g} × N(0, 1 / fan_in)"
        for rate, seeds in mine.groupby(RATE):
            value, low, high, n = statistics.estimate(seeds)
            said = format_interval("accuracy", value, *((low, high) if n > 2 else ()))
            said += f" ({', '.join(f'{100 * seed:.1f}' for seed in seeds)})" if n == 2 else ""
            words[f"rate {rate:g}"] = f"**{said}**" if rate == means.idxmax() else said
        rows.append((list(imagenet.NETS).index(variant), words))
    ordered = [words for _, words in sorted(rows, key=lambda row: row[0])]
    return pd.DataFrame(ordered).fillna("–")
