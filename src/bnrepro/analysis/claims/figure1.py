"""Claims judged on Figure 1: C1 to C3."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import statistics
from bnrepro.analysis.claims.rule import Case, Expected, Frames, Rule, need
from bnrepro.analysis.frame import MissingData

NOTEBOOK = "notebooks/01_figure1.ipynb"
REGIMES = ("paper_like", "tuned")
WORDS = {
    "paper_like": "both at rate 0.1",
    "tuned": "each at its best rate",
}
FIFTHS = ("first", "second", "third", "fourth", "last")
LEAD = 0.001  # C1: accuracy; ten test images
FEWER = 0.9  # C2: ratio of steps
STEADIER = 0.8  # C3: ratio of standard deviations over training
MOST = 0.6  # C3: share of a layer's units


def _each(frames: Frames, cases_of: Callable[[pd.DataFrame, str], list[Case]]) -> list[Case]:
    """The cases of every regime; both that the rules speak about must be there."""
    found = tidy.regimes(need(frames, "fig1_mnist"))
    if absent := [WORDS[name] for name in REGIMES if name not in found]:
        raise MissingData(f"fig1_mnist lacks a regime: {', '.join(absent)}")
    return [case for name, words in WORDS.items() if name in found for case in cases_of(found[name], words)]


def c1(frames: Frames) -> list[Case]:
    """BN's test accuracy lies more than 0.1 points above the baseline's in every fifth of training.

    Per seed, BN - baseline at equal steps is averaged over each fifth (10,000 of 50,000 steps), and over all
    of training; the mean over seeds has a t interval. A net that has diverged guesses.
    """

    def lead(frame: pd.DataFrame, regime: str) -> list[Case]:
        baseline, bn = tidy.arms(tidy.accuracies(frame))
        difference, end = bn - baseline, bn.index[-1]
        cases = [_lead(difference, measure=f"BN's lead, averaged over training ({regime})")]
        for k, which in enumerate(FIFTHS):
            part = difference[
                (difference.index >= k * end / len(FIFTHS))
                & (difference.index <= (k + 1) * end / len(FIFTHS))
            ]
            cases.append(_lead(part, measure=f"in the {which} fifth ({regime})"))
        return cases

    return _each(frames, lead)


def _lead(difference: pd.DataFrame, measure: str) -> Case:
    return Case(measure, "points", statistics.estimate(tidy.mean_over_time(difference)), LEAD)


def c2(frames: Frames) -> list[Case]:
    """BN needs less than 0.9 of the baseline's steps to reach the baseline's best accuracy.

    Target: for each seed, that seed's own baseline's highest accuracy after step 0. Median over seeds of the
    paired ratio, with its exact interval; a BN net that never gets there counts as infinitely slow.
    """

    def speed(frame: pd.DataFrame, regime: str) -> list[Case]:
        steps = tidy.steps_to(frame, tidy.baseline_best(frame)).set_index(["variant", "seed"])["steps"]
        ratio = statistics.compared(steps["bn"], steps["baseline"], "median", np.divide)
        return [
            Case(
                f"BN's steps / the baseline's, to the baseline's best ({regime})",
                "ratio",
                ratio,
                FEWER,
                False,
            )
        ]

    return _each(frames, speed)


def c3(frames: Frames) -> list[Case]:
    """The input of a last-layer sigmoid moves less during training with BN, in location and in width.

    Location: the median over a mini-batch; width: 85th minus 15th percentile. How much they move: their
    standard deviation over training, from step 0 on. As in the paper, of one typical unit: the median over
    seeds of the ratio BN / baseline lies below 0.8. And of all 100 units: in more than 0.6 of them BN's
    ratio lies below 1 (mean over seeds of the share, t interval).
    """

    def steadiness(frame: pd.DataFrame, regime: str) -> list[Case]:
        cases = []
        for what, words in (("median", "median"), ("width", "85th minus 15th percentile")):
            ratio = statistics.estimate(unsteadiness(frame, what), "median")
            measure = f"how much the {words} of one sigmoid's input moves, BN / baseline ({regime})"
            cases.append(Case(measure, "ratio", ratio, STEADIER, False))
        for what, words in (("median", "median"), ("width", "85th minus 15th percentile")):
            share = statistics.estimate(steadier_units(frame, what))
            cases.append(Case(f"units whose {words} moves less with BN ({regime})", "share", share, MOST))
        return cases

    return _each(frames, steadiness)


def unsteadiness(frame: pd.DataFrame, what: str) -> np.ndarray:
    """Per seed, of the typical unit: std over training with BN / without. what: "median" or "width"."""
    p15, p50, p85 = (tidy.curves(frame, f"{tidy.typical_unit(frame)}/p{level}") for level in (15, 50, 85))
    baseline, bn = tidy.arms(p50 if what == "median" else p85 - p15)
    return tidy.std_over_time(bn) / tidy.std_over_time(baseline)


def steadier_units(frame: pd.DataFrame, what: str) -> np.ndarray:
    """Per seed: the share of the last hidden layer's units whose `what` moves less with BN than without."""
    rows = tidy.units(frame)
    values = rows["p50"] if what == "median" else rows["p85"] - rows["p15"]
    table = values.unstack(["variant", "seed", "unit"]).dropna()
    if table.empty:
        raise MissingData("no probes of single units (eval.units)")
    moved = pd.Series(tidy.std_over_time(table), table.columns)
    return (moved["bn"] < moved["baseline"]).groupby("seed").mean().to_numpy()


# Spreads: ten seeds of November 2026 (seeds 0 to 9; the rules are judged on others).
RULES = {
    "C1": Rule(
        c1,
        (
            Expected("mean", 0.003, 0.0, 0.0015, 30, LEAD, cases=8),  # from the second fifth on
            Expected("mean", 0.03, 0.0, 0.0055, 30, LEAD, cases=4),  # the first, and all of training
        ),
        ("fig1_mnist",),
        NOTEBOOK,
    ),
    "C2": Rule(
        c2, (Expected("median", 0.5, 1.0, 0.3, 30, FEWER, above=False, cases=2),), ("fig1_mnist",), NOTEBOOK
    ),
    "C3": Rule(
        c3,
        (
            Expected("median", 0.4, 1.0, 0.65, 30, STEADIER, above=False, cases=4),
            Expected("mean", 0.8, 0.5, 0.1, 30, MOST, cases=4),
        ),
        ("fig1_mnist",),
        NOTEBOOK,
    ),
}
