"""Claims about dropout with BN, judged on the experiment dropout_bn: C12 and C18."""

from bnrepro.analysis import statistics
from bnrepro.analysis.claims.judge import Case, Frames, Verdict, judge, need
from bnrepro.analysis.effects import regularization
from bnrepro.analysis.report import format_interval

NOTEBOOK = "notebooks/05_dropout_and_bn.ipynb"
CONFIG = "experiment=dropout_bn"
MARGIN = 0.002  # accuracy: 20 of the 10,000 test images


def c12(frames: Frames) -> Verdict:
    """Rule: with BN, removing dropout costs less than 0.2 points of test accuracy.

    One case per number of training images: the 95% interval of (best dropout rate - no dropout), paired by
    seed, lies below 0.2 points. For each seed the best rate above 0 is the one with the highest mean test
    accuracy over the other seeds: a rate chosen on the same numbers would be flattered by them. The cost
    without BN stands in the note: where it is no larger, BN is not what made dropout unnecessary.
    """
    accuracy = regularization.measured(need(frames, "dropout_bn"), "accuracy")
    cases = []
    for images, at_size in regularization.by_images(accuracy):
        bn, baseline = (regularization.removal(at_size[arm]) for arm in ("bn", "baseline"))
        cost = statistics.paired_bootstrap(bn.best, bn.none)
        without = statistics.paired_bootstrap(baseline.best, baseline.none)
        chosen = ", ".join(f"{rate:g}" for rate in sorted(bn.rates.unique()))
        note = f" (rate {chosen}; without BN {format_interval('points', *without[:3])})"
        measure = f"best dropout rate - none, with BN, {images:,} images"
        cases.append(Case(measure, "points", cost, float(cost.high < MARGIN), MARGIN - cost.high, note))
    return judge("C12", cases, CONFIG, NOTEBOOK)


def c18(frames: Frames) -> Verdict:
    """Rule: the generalization gap of BN and dropout together is smaller than that of each alone.

    Gap: training minus test accuracy, both in evaluation mode, at the last step. Two cases per number of
    training images, together - BN alone and together - dropout alone: the 95% interval, paired by seed, lies
    below 0. With dropout: the mean over all rates above 0, so that none is chosen. Whether test accuracy
    gains stands in the note and does not enter the rule: a net that fits less has a smaller gap, too.
    """
    frame = need(frames, "dropout_bn")
    gap, accuracy = (regularization.measured(frame, what) for what in ("gap", "accuracy"))
    cases = []
    for images, at_size in regularization.by_images(gap):
        gaps, right = regularization.four(at_size), regularization.four(accuracy.loc[images])
        for alone in ("BN alone", "dropout alone"):
            change = statistics.paired_bootstrap(gaps["both"], gaps[alone])
            gain = statistics.paired_bootstrap(right["both"], right[alone])
            word = "gains" if gain.low > 0 else "loses" if gain.high < 0 else "undecided"
            note = f" (test accuracy {format_interval('points', *gain[:3])}: {word})"
            measure = f"gap of both - {alone}, {images:,} images"
            cases.append(Case(measure, "points", change, float(change.high < 0), -change.high, note))
    return judge("C18", cases, CONFIG, NOTEBOOK)


JUDGES = {"C12": c12, "C18": c18}
