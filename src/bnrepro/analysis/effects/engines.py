"""The same experiment trained twice, by two engines or on two machines: equal at first, alike at the end.

The nets start from the same weights and see the same batches. At the first evaluations their numbers must be equal
within rounding. Later rounding grows, and two runs are two draws: final accuracies are compared in distribution.
"""

import pandas as pd
from scipy import stats

from bnrepro.analysis import statistics
from bnrepro.analysis.effects.runs import last

EARLY = (0, 1, 2, 5, 10)  # steps; rounding has not grown yet
ARM = ["regime", "variant"]


def comparison(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """`early` above `late`. Raises ValueError where the frames do not hold the same runs and steps."""
    return pd.concat([early(one, other), late(one, other)], ignore_index=True)


def early(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """A row per arm and step: the largest relative difference of test and training loss over the seeds."""
    key = [*ARM, "seed", "step", "name"]
    rows = [frame.query("name in ('test/loss', 'train/loss') and step in @EARLY") for frame in (one, other)]
    a, b = (frame.set_index(key)["value"] for frame in rows)
    if not a.index.sort_values().equals(b.index.sort_values()):
        raise ValueError("the two do not hold the same runs and steps")
    difference = ((a - b) / a.abs()).abs().groupby([*ARM, "step"]).max()
    seeds, found = a.index.get_level_values("seed").nunique(), []
    for (regime, variant, step), value in difference.items():
        found.append(
            {
                "regime": regime,
                "arm": variant,
                "quantity": f"loss at step {step}, largest relative difference",
            }
            | {"unit": "error", "value": value, "low": float("nan"), "high": float("nan"), "n": seeds}
        )
    return pd.DataFrame(found)


def late(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Final test accuracy, other - one: a paired t-test of the mean (seeds are pairs), then a two-sample
    Kolmogorov-Smirnov test, each with Holm's correction over the arms."""
    a, b = (last(frame, "test/accuracy", ["regime"]) for frame in (one, other))
    means, shapes = [], []
    for regime, variant in a.index.droplevel("seed").unique():
        mine, theirs = (values.xs((regime, variant), level=ARM) for values in (a, b))
        where = {"regime": regime, "arm": variant}
        mean = {"quantity": "final test accuracy, other - one; paired t-test", "unit": "points"}
        means.append(where | mean | statistics.paired(theirs, mine))
        test = stats.ks_2samp(theirs, mine)
        shape = {"quantity": "largest distance of the distributions; Kolmogorov-Smirnov", "unit": "ratio"}
        bounds = {"value": test.statistic, "low": float("nan"), "high": float("nan"), "n": len(mine)}
        shapes.append(where | shape | bounds | {"p": test.pvalue})
    return pd.concat([statistics.corrected(rows) for rows in (means, shapes)])
