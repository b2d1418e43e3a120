"""Claims that are identities: C4, C5, C6. Nothing is sampled; the largest error is compared with a tolerance."""

import functools

import numpy as np

from bnrepro.analysis.claims.rule import Case, Frames, Rule, need
from bnrepro.analysis.frame import MissingData
from bnrepro.analysis.statistics import Interval


def exact(claim: str, frames: Frames) -> list[Case]:
    """The largest error is at most the tolerance, in every row of results/exact.csv of this claim."""
    rows = need(frames, "exact").query("claim == @claim")
    if rows.empty:
        raise MissingData(f"results/exact.csv has no row for {claim}")
    cases = []
    for row in rows.to_dict("records"):
        error = Interval(row["value"], row["value"], row["value"], int(row["n"]))
        beyond = np.nextafter(row["tolerance"], np.inf)  # an error of just the tolerance is within it
        cases.append(Case(row["name"], "error", error, float(beyond), False, "numbers"))
    return cases


RULES = {claim: Rule(functools.partial(exact, claim), (), ("exact",), "") for claim in ("C4", "C5", "C6")}
