"""The claim judged on the noise of mini-batches: C17, less noise and so less regularization."""

from bnrepro.analysis import statistics
from bnrepro.analysis.claims.judge import Case, Frames, Verdict, judge, need
from bnrepro.analysis.effects import noise
from bnrepro.analysis.frame import MissingData

NOTEBOOK = "notebooks/04_batch_noise.ipynb"


def c17(frames: Frames) -> Verdict:
    """Rule: (i) the noise of mu_B and var_B falls with the mini-batch, (ii) BN's gap rises because of it.

    (i) Two cases: the 95% interval of the log-log slope of the variance over the batch size lies below 0
    (theory: -1). (ii) Two cases on the generalization gap (training - test accuracy, evaluation mode, last
    step), as its change per doubling of the batch size, paired by seed: BN - baseline, and BN - BN with its
    noise frozen, the control that leaves the normalization and takes the noise away. Each counts fully if its
    interval and that of BN's own change lie above 0, half if only its own does. Batch sizes at which a run
    diverged are left out. Without the control the verdict is at most "partly".
    """
    frame = need(frames, "batch_noise")
    cases = []
    for what in ("mu", "var"):
        slope = statistics.bootstrap(noise.slopes(frame, what))
        measure = f"log-log slope of the variance of the {noise.NAMES[what]} over the batch size"
        cases.append(Case(measure, "number", slope, float(slope.high < 0), -slope.high))
    trend, left_out = noise.gap_slopes(frame)
    if absent := {"baseline", "bn"} - set(trend):
        raise MissingData(f"no runs of {' and '.join(sorted(absent))}")
    own = statistics.bootstrap(trend["bn"])
    for other in [arm for arm in ("baseline", "bn_frozen") if arm in trend]:
        more = statistics.paired_bootstrap(trend["bn"], trend[other])
        grade = 0.0 if not more.low > 0 else 1.0 if own.low > 0 else 0.5
        note = f" (BN's own {100 * own.value:+.2f} [{100 * own.low:+.2f}, {100 * own.high:+.2f}])"
        measure = f"change of the generalization gap per doubling, with BN - {noise.ARMS[other]}"
        cases.append(Case(measure, "points", more, grade, more.low, note))
    notes = [f"batch size {', '.join(map(str, left_out))} left out: a run diverged"] if left_out else []
    controlled = "bn_frozen" in trend
    notes += [] if controlled else ["not measured: BN with its noise frozen"]
    most = "" if controlled else "partly"
    return judge("C17", cases, "experiment=batch_noise", NOTEBOOK, "; ".join(notes), most)


JUDGES = {"C17": c17}
