"""Claims about dropout with BN, judged on the experiment dropout_bn: C12 and C18."""

from bnrepro.analysis import statistics
from bnrepro.analysis.claims.rule import Case, Expected, Frames, Rule, need
from bnrepro.analysis.effects import regularization
from bnrepro.analysis.report import format_interval

NOTEBOOK = "notebooks/05_dropout_and_bn.ipynb"
MARGIN = 0.002  # C12: accuracy; 20 of the 10,000 test images
SMALLER = 0.001  # C18: gap


def c12(frames: Frames) -> list[Case]:
    """With BN, removing dropout costs less than 0.2 points of test accuracy.

    A case for each number of training images: test accuracy with the best dropout rate minus without dropout,
    paired by seed, mean with a t interval. For each seed the best rate above 0 is the one with the highest
    mean over the other seeds: one chosen with that seed's help would be flattered. What it costs without BN
    stands beside it: where that is no more, BN is not what made dropout unnecessary.
    """
    accuracy = regularization.measured(need(frames, "dropout_bn"), "accuracy")
    cases = []
    for images, at_size in reversed(list(regularization.by_images(accuracy))):
        bn, baseline = (regularization.removal(at_size[arm]) for arm in ("bn", "baseline"))
        without = statistics.compared(baseline.best, baseline.none)
        chosen = ", ".join(f"{rate:g}" for rate in sorted(bn.rates.unique()))
        note = f" (rate {chosen}; without BN {format_interval('points', *without[:3])})"
        measure = f"what removing dropout costs with BN, {images:,} training images"
        cases.append(Case(measure, "points", statistics.compared(bn.best, bn.none), MARGIN, False, note=note))
    return cases


def c18(frames: Frames) -> list[Case]:
    """The generalization gap with BN and dropout together is smaller than with either alone, by 0.1 points.

    Gap: training minus test accuracy at the last step, evaluation mode. Two cases for each number of training
    images, paired by seed, means with t intervals. With dropout: the mean over all rates above 0, so that none
    is chosen. What test accuracy gains stands beside it: a net that fits less has a smaller gap, too.
    """
    frame = need(frames, "dropout_bn")
    gap, accuracy = (regularization.measured(frame, what) for what in ("gap", "accuracy"))
    cases = []
    for images, at_size in reversed(list(regularization.by_images(gap))):
        gaps, right = regularization.four(at_size), regularization.four(accuracy.loc[images])
        for alone in ("BN alone", "dropout alone"):
            gain = statistics.compared(right["both"], right[alone])
            note = f" (test accuracy {format_interval('points', *gain[:3])})"
            measure = f"generalization gap of BN and dropout - of {alone}, {images:,} training images"
            change = statistics.compared(gaps["both"], gaps[alone])
            cases.append(Case(measure, "points", change, -SMALLER, False, note=note))
    return cases


RULES = {
    "C12": Rule(
        c12,
        (Expected("mean", 0.0, 0.02, 0.002, 10, MARGIN, above=False, cases=3),),
        ("dropout_bn",),
        NOTEBOOK,
    ),
    "C18": Rule(
        c18,
        (Expected("mean", -0.005, 0.0, 0.002, 10, -SMALLER, above=False, cases=6),),
        ("dropout_bn",),
        NOTEBOOK,
    ),
}
