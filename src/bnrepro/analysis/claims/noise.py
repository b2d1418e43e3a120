"""The claim judged on the noise of mini-batches: C17."""

from collections.abc import Callable

import pandas as pd

from bnrepro.analysis import statistics
from bnrepro.analysis.claims.rule import Case, Expected, Frames, Rule, need
from bnrepro.analysis.effects import noise
from bnrepro.analysis.frame import MissingData
from bnrepro.analysis.report import format_interval

PER_DOUBLING = 0.002  # accuracy: change of the generalization gap when the mini-batch doubles
NOISY = 128  # the batch size at which Ghost BN's noise stands beside BN's
SMALLER = 0.002  # accuracy: by how much Ghost BN's gap is smaller there


def c17(frames: Frames) -> list[Case]:
    """With BN the generalization gap grows with the mini-batch, and it is BN's noise that makes it so.

    Gap: training minus test accuracy in evaluation mode, where the training loss first falls to the lowest
    value that every net reaches: nets that fit their training images equally well. Change per doubling of the
    batch size, per seed; the mean over seeds lies above 0.2 points for BN itself, for BN minus the net without
    BN, and for BN minus BN whose noise is frozen: the control that leaves the normalization and takes the
    noise away. The control that adds the noise and leaves the batch: at 128 Ghost BN, with statistics over
    16 examples, has a gap that is more than 0.2 points smaller than BN's. Batch sizes at which a run diverged,
    or at which the nets of some variant have fitted less than 99% of their training images at the end (mean over
    seeds), are left out. What the changes are after equally many examples stands beside them.
    """
    frame, short = noise.fitted(need(frames, "batch_noise"))
    (trend, left_out), (at_end, _) = (noise.gap_slopes(frame, when=when) for when in ("loss", "examples"))
    table = noise.gaps(frame)
    if absent := {"baseline", "bn", "bn_frozen"} - set(trend) | {"bn_ghost"} - set(table.index.unique(0)):
        raise MissingData(f"no runs of {' and '.join(sorted(absent))}")

    def case(measure: str, of: Callable[[pd.DataFrame], pd.Series], note: str = "") -> Case:
        beside = format_interval("points", *statistics.estimate(of(at_end))[:3])
        note = f" (at equal examples {beside}){note}"
        return Case(measure, "points", statistics.estimate(of(trend)), PER_DOUBLING, note=note)

    out = _left_out(left_out, "a run diverged") + _left_out(short, "not fitted")
    cases = [case("change of BN's generalization gap when the mini-batch doubles", lambda t: t["bn"], out)]
    for other in ("baseline", "bn_frozen"):
        words = f"the same, with BN - {noise.ARMS[other]}"
        cases.append(case(words, lambda t, other=other: t["bn"] - t[other]))
    smaller = statistics.compared(table.loc["bn", NOISY], table.loc["bn_ghost", NOISY])
    cases.append(
        Case(f"BN's gap - that of Ghost BN of 16, mini-batches of {NOISY}", "points", smaller, SMALLER)
    )
    return cases


def _left_out(sizes: list[int], why: str) -> str:
    return f" (batch size {', '.join(map(str, sizes))} left out: {why})" if sizes else ""


# Effects and spreads: ten seeds of November 2026 (10 to 19), without the batch size at which BN had not fitted.
RULES = {
    "C17": Rule(
        c17,
        (
            Expected("mean", 0.004, 0.0, 0.0015, 10, PER_DOUBLING, cases=3),
            Expected("mean", 0.009, 0.0, 0.004, 10, SMALLER),
        ),
        ("batch_noise",),
        "notebooks/04_batch_noise.ipynb",
    )
}
