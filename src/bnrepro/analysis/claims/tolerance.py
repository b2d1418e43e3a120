"""Claims about what a net tolerates: 5 times its learning rate (C7), other initial weights (C16)."""

import numpy as np
import pandas as pd

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import statistics
from bnrepro.analysis.claims.rule import Case, Expected, Frames, Rule, need
from bnrepro.analysis.effects import tolerance
from bnrepro.analysis.frame import MissingData

FACTOR = 5
HALF = 0.5  # C7: of the nets
NARROWER = 0.002  # C16: accuracy
STEADIER = 1.2  # C16: ratio of ratios of steps
ENOUGH = 0.9  # C16: accuracy that counts as trained


def c7(frames: Frames) -> list[Case]:
    """At exactly 5 times the baseline's best rate most nets without BN fail, and most nets with BN do not.

    Best rate: experiment=rates_mnist (grid of factor 1.5, validation images, init std 0.1); where the best
    cannot be told from a lower one, both. For sigmoids and for ReLU, the share of 20 nets that fail lies
    above one half without BN and below it with BN, each with its exact interval. A net fails if its loss is
    not finite, or if at the last step it is less than half as accurate as the same seed's net at its best of
    all multiples, although a lower multiple does not fail so (effects.tolerance).
    """
    frame, cases = need(frames, "rate_multiples"), []
    tidy.need_columns(frame, ("model.activation", "optim.lr", "optim.lr_scale"))
    if absent := {"sigmoid", "relu"} - set(frame["model.activation"]):
        raise MissingData(f"no runs with {' and '.join(sorted(absent))}")
    for (activation, rate), runs in frame.groupby(["model.activation", "optim.lr"], sort=False):
        for arm, words in (("baseline", "without BN"), ("bn", "with BN")):
            failed = tolerance.fails_at(runs, arm, FACTOR)
            share = statistics.share(int(failed.sum()), len(failed))
            measure = f"nets that fail at 5 times the best rate, {words} ({activation}, 5 x {rate:g})"
            cases.append(Case(measure, "share", share, HALF, arm == "baseline", "nets"))
    return cases


def c16(frames: Frames) -> list[Case]:
    """Over init stds from 0.01 to 1, BN's results differ less: its final accuracy and its steps to 90%.

    Each arm at its best rate for that std, chosen for each seed by the mean over the other seeds. (i) Highest
    minus lowest final accuracy: the baseline's range exceeds BN's by more than 0.2 points, mean over seeds.
    (ii) Steps to 90%, slowest std / fastest std: the baseline's ratio is more than 1.2 times BN's, median over
    seeds. A net that never gets to 90% is infinitely slow; where both are, they count as equal.
    """
    frame = need(frames, "sensitivity_mnist")
    accuracy, steps = tolerance.over_stds(frame, ENOUGH)
    ranges = {arm: _range(accuracy[arm]) for arm in ("baseline", "bn")}
    slower = {arm: _ratio(steps[arm]) for arm in ("baseline", "bn")}
    wider = statistics.compared(ranges["baseline"], ranges["bn"])
    both = slower["baseline"] / slower["bn"]
    ratio = both.where(~(np.isinf(slower["baseline"]) & np.isinf(slower["bn"])), 1.0)
    return [
        Case("range of final accuracy over init stds, baseline - BN", "points", wider, NARROWER),
        Case(
            "steps to 90%, slowest / fastest init std, baseline / BN",
            "ratio",
            statistics.estimate(ratio, "median"),
            STEADIER,
        ),
    ]


def _range(by_std: pd.DataFrame) -> pd.Series:
    return by_std.max() - by_std.min()


def _ratio(by_std: pd.DataFrame) -> pd.Series:
    return by_std.max() / by_std.min()


# Shares: 8 of 8 nets failed without BN and 0 of 8 with BN, elsewhere. Spreads: 4 seeds of November 2026.
RULES = {
    "C7": Rule(
        c7,
        (
            Expected("share", 0.95, 0.5, 0.0, 20, HALF, cases=3),
            Expected("share", 0.05, 0.5, 0.0, 20, HALF, above=False, cases=3),
        ),
        ("rate_multiples",),
        "notebooks/03_tolerance_maps.ipynb",
    ),
    "C16": Rule(
        c16,
        (
            Expected("mean", 0.01, 0.0, 0.003, 10, NARROWER),
            Expected("median", 2.0, 1.0, 0.35, 10, STEADIER),
        ),
        ("sensitivity_mnist",),
        "notebooks/01_figure1.ipynb",
    ),
}
