"""Why it works: the layer Jacobians of section 3.3 (C15), and internal covariate shift, which is disputed."""

from bnrepro.analysis.claims.rule import Case, Expected, Frames, Rule, need
from bnrepro.analysis.effects import why

EXPERIMENT = "why_it_works"
NOTEBOOK = "notebooks/08_why_it_works.ipynb"
NEARER = 0.05  # decades
LOWER, TURNED = 0.9, 0.05  # covariate shift: ratio of norms, difference of cosines
SHIFT = "internal covariate shift is lower with BN (abstract; disputed by Santurkar et al. 2018)"


def c15(frames: Frames) -> list[Case]:
    """With BN the singular values s of the layer Jacobians lie nearer 1: mean |log10 s| falls by over 0.05.

    A case for each nonlinearity and depth, each before the nonlinearity, d BN(Wx) / dx, the layer that section
    3.3 assumes to be linear, and after it, d g(BN(Wx)) / dx, what the next layer sees; BN - baseline, paired
    by seed, mean with a t interval. Mean over 8 examples, the singular values in active directions (a ReLU's
    inactive units make zeros whatever the weights are), hidden layers from the second on, and training (by
    time). Initial weights and rate are such that the nets without BN train at every depth.
    """
    table, cases = why.wide(need(frames, EXPERIMENT)), []
    for place in ("before", "after"):
        quantity = why.LAYERS[f"decades from 1, {place} the nonlinearity"]
        for (activation, depth), effect, _ in why.compared(table, quantity):
            net = f"{activation}, depth {depth}"
            measure = f"|log10 of singular values| {place} the nonlinearity, BN - baseline ({net})"
            cases.append(Case(measure, "number", effect, -NEARER, False))
    return cases


def covariate_shift(frames: Frames) -> list[Case]:
    """Internal covariate shift by Definition 2.1 of Santurkar et al. 2018 is lower with BN.

    G, G': a layer's gradient before and after its predecessors step. Two cases for each nonlinearity and
    depth, averaged over layers and training: the median over seeds of ||G - G'|| with BN / without lies below
    0.9; the mean of the cosine of G and G', with BN - without, above 0.05. "Not reproduced" agrees with
    Santurkar et al. No row of the scorecard: the paper states no measure.
    """
    table, cases = why.wide(need(frames, EXPERIMENT)), []
    for (activation, depth), ratio, _ in why.compared(table, why.SHIFT["covariate shift ‖G - G'‖"]):
        measure = f"‖G - G'‖, BN / baseline ({activation}, depth {depth})"
        cases.append(Case(measure, "number", ratio, LOWER, False))
    for (activation, depth), change, _ in why.compared(table, why.SHIFT["cosine of G and G'"]):
        measure = f"cosine of G and G', BN - baseline ({activation}, depth {depth})"
        cases.append(Case(measure, "number", change, TURNED))
    return cases


COVARIATE_SHIFT = Rule(
    covariate_shift,
    (
        Expected("median", 0.5, 1.0, 0.3, 10, LOWER, above=False, cases=6),
        Expected("mean", 0.2, 0.0, 0.08, 10, TURNED, cases=6),
    ),
    (EXPERIMENT,),
    NOTEBOOK,
)
RULES = {
    "C15": Rule(
        c15, (Expected("mean", -0.2, 0.0, 0.05, 10, -NEARER, above=False, cases=12),), (EXPERIMENT,), NOTEBOOK
    )
}
