"""The claim judged on the noise of mini-batches: C17."""

from bnrepro.analysis import statistics
from bnrepro.analysis.claims.rule import Case, Expected, Frames, Rule, need
from bnrepro.analysis.effects import noise
from bnrepro.analysis.frame import MissingData

PER_DOUBLING = 0.002  # accuracy: change of the generalization gap when the mini-batch doubles


def c17(frames: Frames) -> list[Case]:
    """With BN the generalization gap grows with the mini-batch, and it is BN's noise that makes it so.

    Gap: training minus test accuracy at the last step, evaluation mode. Change per doubling of the batch
    size, per seed; the mean over seeds lies above 0.2 points for BN itself, for BN minus the net without BN,
    and for BN minus BN whose noise is frozen: the control that leaves the normalization and takes the noise
    away. Batch sizes at which a run diverged are left out.
    """
    frame = need(frames, "batch_noise")
    trend, left_out = noise.gap_slopes(frame)
    if absent := {"baseline", "bn", "bn_frozen"} - set(trend):
        raise MissingData(f"no runs of {' and '.join(sorted(absent))}")
    note = f" (batch size {', '.join(map(str, left_out))} left out: a run diverged)" if left_out else ""
    own = Case(
        "change of BN's generalization gap when the mini-batch doubles",
        "points",
        statistics.estimate(trend["bn"]),
        PER_DOUBLING,
        note=note,
    )
    others = [
        Case(
            f"the same, with BN - {noise.ARMS[other]}",
            "points",
            statistics.compared(trend["bn"], trend[other]),
            PER_DOUBLING,
        )
        for other in ("baseline", "bn_frozen")
    ]
    return [own, *others]


RULES = {
    "C17": Rule(
        c17,
        (Expected("mean", 0.005, 0.0, 0.002, 10, PER_DOUBLING, cases=3),),
        ("batch_noise",),
        "notebooks/04_batch_noise.ipynb",
    )
}
