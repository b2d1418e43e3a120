"""The claim judged on the maps of learning rate x init std: C7, what happens at 5 times the rate."""

import numpy as np
import pandas as pd

from bnrepro.analysis import statistics
from bnrepro.analysis.claims.judge import Case, Frames, Verdict, judge, need
from bnrepro.analysis.effects import tolerance
from bnrepro.analysis.frame import MissingData

NOTEBOOK = "notebooks/03_tolerance_maps.ipynb"
FACTOR = 5
WORDS = {"baseline": "the baseline's best rate", "own": "each arm's own best rate"}


def c7(frames: Frames) -> Verdict:
    """Rule: at 5 times the rate most baseline seeds diverge, most BN seeds do not, and the paired 95%
    interval of (share of diverged runs without BN - with BN) lies above 0.

    Best rate: the one with the arm's highest mean validation accuracy at init std 0.1. Four cases: sigmoid
    and ReLU x (both arms at 5 times the baseline's best rate, as in the paper; each arm at 5 times its own).
    Diverged: the loss was not finite, or the run collapsed (effects.tolerance). The grid has no rate of
    exactly 5 times: BN, and the baseline for half a point, are judged at the next rate above; the full point
    takes a baseline that also diverges at the next rate below. A case whose rate is beyond the grid is not
    judged, and the verdict at most "partly".
    """
    frame = need(frames, "tolerance_maps")
    best = tolerance.best_rates(frame)
    cases, missing = [], []
    for activation in ("sigmoid", "relu"):
        if absent := [arm for arm in ("baseline", "bn") if (activation, arm) not in best.index]:
            missing.append(f"{activation}: no {' and '.join(absent)}")
            continue
        for reference in WORDS:
            case = _case(frame, activation, reference, best[activation])
            missing += [f"{activation}, {WORDS[reference]}: beyond the grid"] if case is None else []
            cases += [] if case is None else [case]
    if not cases:
        raise MissingData(f"no case can be judged ({'; '.join(missing)})")
    note = f"not judged: {'; '.join(missing)}" if missing else ""
    return judge("C7", cases, "experiment=tolerance_maps", NOTEBOOK, note, "partly" if missing else "")


def _case(frame: pd.DataFrame, activation: str, reference: str, best: pd.Series) -> Case | None:
    rates = frame["optim.lr"].unique()
    base, other = best["baseline"], best["baseline" if reference == "baseline" else "bn"]
    below, above = tolerance.bracket(rates, FACTOR * base)
    _, bn_above = tolerance.bracket(rates, FACTOR * other)
    if np.isnan([above, bn_above]).any():
        return None
    bn = tolerance.diverges(frame, activation, "bn", bn_above)
    lower, upper = (tolerance.diverges(frame, activation, "baseline", rate) for rate in (below, above))
    effect = statistics.paired_bootstrap(upper, bn)
    holds = [_holds(baseline, bn) for baseline in (upper, lower)]
    grade = 1.0 if all(holds) else 0.5 if holds[0] else 0.0
    note = (
        f" (diverged without BN: {lower.mean():.0%} at rate {below:g} = {below / base:.2g}x the best,"
        f" {upper.mean():.0%} at {above:g} = {above / base:.2g}x; with BN: {bn.mean():.0%} at {bn_above:g}"
        f" = {bn_above / other:.2g}x)"
    )
    measure = f"share diverged at {FACTOR} times {WORDS[reference]}, without - with BN ({activation})"
    return Case(measure, "points", effect, grade, effect.low, note)


def _holds(baseline: pd.Series, bn: pd.Series) -> bool:
    contrast = statistics.paired_bootstrap(baseline, bn)
    return bool(baseline.mean() > 0.5 and bn.mean() < 0.5 and contrast.low > 0)


JUDGES = {"C7": c7}
