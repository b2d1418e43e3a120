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

    A case for each nonlinearity and number of training images: test accuracy with the best dropout rate minus
    without dropout, paired by seed, mean with a t interval. The best rate above 0 is the one with the highest
    mean accuracy on held-out images. What removing it costs without BN stands beside it: where that is no
    more, BN is not what made dropout unnecessary.
    """
    frame, cases = need(frames, "dropout_bn"), []
    choice = dict(regularization.by_images(regularization.measured(frame, "choice")))
    for key, at_size in regularization.by_images(regularization.measured(frame, "accuracy")):
        bn, baseline = (regularization.removal(at_size[arm], choice[key][arm]) for arm in ("bn", "baseline"))
        without = statistics.compared(baseline.best, baseline.none)
        note = f" (dropout {bn.rate:g}; without BN {format_interval('points', *without[:3])})"
        measure = f"what removing dropout costs with BN ({_words(*key)})"
        cost = statistics.compared(bn.best, bn.none)
        cases.append(Case(measure, "points", cost, MARGIN, False, note=note))
    return cases


def c18(frames: Frames) -> list[Case]:
    """The generalization gap with BN and dropout together is smaller than with either alone, by 0.1 points.

    Gap: training minus test accuracy at the last step, evaluation mode. Two cases for each nonlinearity and
    number of training images, paired by seed, means with t intervals. With dropout: the mean over all rates
    above 0, so that none is chosen. What test accuracy gains stands beside it: a net that fits less has a
    smaller gap, too.
    """
    frame, cases = need(frames, "dropout_bn"), []
    accuracy = dict(regularization.by_images(regularization.measured(frame, "accuracy")))
    for key, at_size in regularization.by_images(regularization.measured(frame, "gap")):
        gaps, right = regularization.four(at_size), regularization.four(accuracy[key])
        for alone in ("BN alone", "dropout alone"):
            gain = statistics.compared(right["both"], right[alone])
            note = f" (test accuracy {format_interval('points', *gain[:3])})"
            measure = f"generalization gap of BN and dropout - of {alone} ({_words(*key)})"
            change = statistics.compared(gaps["both"], gaps[alone])
            cases.append(Case(measure, "points", change, -SMALLER, False, note=note))
    return cases


def _words(activation: str, images: int) -> str:
    return f"{activation}, {images:,} training images"


# Spreads: 5 seeds of November 2026 on one subset, wider for subsets of their own. If the paper is right, removing
# dropout gains something (section 4.2.1).
RULES = {
    "C12": Rule(
        c12,
        (
            Expected("mean", -0.002, 0.02, 0.0015, 10, MARGIN, above=False, cases=2),
            Expected("mean", -0.002, 0.02, 0.0025, 10, MARGIN, above=False, cases=2),
            Expected("mean", -0.002, 0.02, 0.0045, 20, MARGIN, above=False, cases=2),
        ),
        ("dropout_bn",),
        NOTEBOOK,
    ),
    "C18": Rule(
        c18,
        (
            Expected("mean", -0.005, 0.0, 0.0025, 10, -SMALLER, above=False, cases=8),
            Expected("mean", -0.02, 0.0, 0.005, 20, -SMALLER, above=False, cases=4),
        ),
        ("dropout_bn",),
        NOTEBOOK,
    ),
}
