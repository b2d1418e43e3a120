"""Why it works: the layer Jacobians of section 3.3 (C15), and internal covariate shift, which is disputed."""

from bnrepro.analysis.claims.judge import Case, Frames, Verdict, judge, need
from bnrepro.analysis.effects import why

NOTEBOOK = "notebooks/08_why_it_works.ipynb"
EXPERIMENT = "why_it_works"
CONFIG = f"experiment={EXPERIMENT}"
SHIFT = "internal covariate shift is lower with BN (abstract; disputed by Santurkar et al. 2018)"


def c15(frames: Frames) -> Verdict:
    """Rule: with BN the singular values s of the layer Jacobians lie nearer 1, in mean |log10 s|.

    A case for every nonlinearity and depth that was run, each (i) before the nonlinearity, d BN(Wx) / dx,
    the layer that section 3.3 assumes to be linear, and (ii) after it, d g(BN(Wx)) / dx, what the next layer
    sees: the 95% interval of BN - baseline, paired by seed, lies below 0. Mean over 8 examples, all singular
    values, hidden layers from the second on, and training (by time). s < 1e-4 counts as 1e-4.
    """
    table, cases = why.wide(need(frames, EXPERIMENT)), []
    for place in ("before", "after"):
        quantity = why.LAYERS[f"decades from 1, {place} the nonlinearity"]
        for (activation, depth), effect, _ in why.compared(table, quantity):
            measure = f"decades from 1 {place} the nonlinearity, BN - baseline ({activation}, depth {depth})"
            cases.append(Case(measure, "number", effect, float(effect.high < 0), -effect.high))
    return judge("C15", cases, CONFIG, NOTEBOOK)


def covariate_shift(frames: Frames) -> Verdict:
    """Rule: internal covariate shift by Definition 2.1 of Santurkar et al. 2018 is lower with BN.

    G, G': a layer's gradient before and after its predecessors step. Two cases for every nonlinearity and
    depth, averaged over layers and training: (i) the 95% interval of the median paired ratio of ‖G - G'‖,
    BN / baseline, lies below 1; (ii) that of the mean paired difference of the cosine of G and G' lies above
    0. "Not reproduced" agrees with Santurkar et al. No row of the scorecard: the paper states no measure.
    """
    table, cases = why.wide(need(frames, EXPERIMENT)), []
    for (activation, depth), ratio, _ in why.compared(table, why.SHIFT["covariate shift ‖G - G'‖"]):
        measure = f"‖G - G'‖, BN / baseline ({activation}, depth {depth})"
        cases.append(Case(measure, "number", ratio, float(ratio.high < 1), 1 - ratio.high))
    for (activation, depth), change, _ in why.compared(table, why.SHIFT["cosine of G and G'"]):
        measure = f"cosine of G and G', BN - baseline ({activation}, depth {depth})"
        cases.append(Case(measure, "number", change, float(change.low > 0), change.low))
    return judge("ICS", cases, CONFIG, NOTEBOOK)


JUDGES = {"C15": c15}
