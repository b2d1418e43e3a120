"""Claims judged on Figure 1 (C1 to C3), on its panel of rates and init stds (C16), and exactly (C4 to C6)."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from bnrepro.analysis import frame as tidy
from bnrepro.analysis import statistics
from bnrepro.analysis.claims.judge import Case, Frames, Verdict, judge, need
from bnrepro.analysis.frame import MissingData
from bnrepro.analysis.statistics import Interval

FIGURE1 = "notebooks/01_figure1.ipynb"


def _figure1(claim: str, frames: Frames, cases_of: Callable[[pd.DataFrame, str], list[Case]]) -> Verdict:
    """Judges every regime of fig1_mnist; "reproduced" takes both, the paper-like and the tuned one."""
    by_regime = tidy.regimes(need(frames, "fig1_mnist"))
    cases = [case for regime, frame in by_regime.items() for case in cases_of(frame, f"({_words(regime)})")]
    missing = [_words(regime) for regime in ("paper_like", "tuned") if regime not in by_regime]
    note = f"not measured: {' and '.join(missing)}" if missing else ""
    return judge(claim, cases, "experiment=fig1_mnist", FIGURE1, note, "partly" if missing else "")


def _words(regime: str) -> str:
    return regime.replace("_", "-")


def c1(frames: Frames) -> Verdict:
    """Rule: BN leads where the paired 95% interval of the mean accuracy difference lies above 0.

    A regime counts fully if BN leads during at least 95% of training (by time, from the first step after 0),
    half if during at least 50%. Effect: the difference averaged over training, per seed, then over seeds.
    """

    def lead(frame: pd.DataFrame, regime: str) -> list[Case]:
        baseline, bn = tidy.arms(tidy.curves(frame, tidy.accuracy_name(frame)))
        difference = (bn - baseline).loc[lambda d: d.index > 0]
        above = [statistics.paired_bootstrap(bn.loc[s], baseline.loc[s]).low > 0 for s in difference.index]
        share = float(tidy.mean_over_time(pd.Series(above, difference.index)))
        effect = statistics.bootstrap(tidy.mean_over_time(difference))
        grade = 1.0 if share >= 0.95 else 0.5 if share >= 0.5 else 0.0
        measure = f"accuracy lead averaged over training {regime}"
        return [Case(measure, "points", effect, grade, effect.low, f", clear during {share:.0%} of it")]

    return _figure1("C1", frames, lead)


def c2(frames: Frames) -> Verdict:
    """Rule: the 95% interval of (BN's steps / the baseline's steps) to the baseline's best lies below 1.

    Target: for each seed, that seed's own baseline's highest accuracy after step 0. Median over seeds of the
    paired ratio; a BN run that never gets there counts as infinitely slow.
    """

    def speed(frame: pd.DataFrame, regime: str) -> list[Case]:
        steps = tidy.steps_to(frame, tidy.baseline_best(frame)).set_index(["variant", "seed"])["steps"]
        baseline, bn = tidy.arms(steps.to_frame().T)
        ratio = statistics.paired_bootstrap(bn.iloc[0], baseline.iloc[0], np.median, combine=np.divide)
        measure = f"steps of BN / baseline to the baseline's best {regime}"
        return [Case(measure, "ratio", ratio, float(ratio.high < 1), 1 - ratio.high)]

    return _figure1("C2", frames, speed)


def c3(frames: Frames) -> Verdict:
    """Rule: the 95% interval of the ratio of variability, BN / baseline, lies below 1 (median over seeds).

    Variability: standard deviation over training (by time) of (i) the median and (ii) p85 - p15 of the input
    to the typical last-hidden unit, each from step 0 and from step 1,000: four cases in each regime.
    """

    def steadiness(frame: pd.DataFrame, regime: str) -> list[Case]:
        unit = tidy.typical_unit(frame)
        p15, p50, p85 = (tidy.curves(frame, f"{unit}/p{level}") for level in (15, 50, 85))
        gaps = int(p50.isna().any(axis=1).sum())
        note = f", without the {gaps} steps at which a run had no number" if gaps else ""
        cases = []
        for what, moving in (("median", p50), ("p85 - p15", p85 - p15)):
            for start in (0, 1000):
                late = moving[moving.index >= start]
                deviation = [
                    np.sqrt(tidy.mean_over_time((arm - tidy.mean_over_time(arm)) ** 2))
                    for arm in tidy.arms(late)
                ]
                ratio = statistics.paired_bootstrap(deviation[1], deviation[0], np.median, combine=np.divide)
                measure = f"std over time of {what} from step {start}, BN / baseline {regime}"
                cases.append(Case(measure, "ratio", ratio, float(ratio.high < 1), 1 - ratio.high, note))
        return cases

    return _figure1("C3", frames, steadiness)


def exact(claim: str, frames: Frames) -> Verdict:
    """C4, C5, C6, identities: each row of results/exact.csv (claim, name, value, tolerance, n) is a case.

    Rule: the largest error, value, is at most tolerance. No sampling, so no interval.
    """
    rows = need(frames, "exact").query("claim == @claim")
    if rows.empty:
        raise MissingData(f"results/exact.csv has no row for {claim}")
    cases = []
    for r in rows.to_dict("records"):
        error, margin = Interval(r["value"], np.nan, np.nan, int(r["n"])), r["tolerance"] - r["value"]
        note = f" (tolerance {r['tolerance']:.0e})"
        cases.append(Case(r["name"], "error", error, float(margin >= 0), margin, note))
    return judge(claim, cases, "results/exact.csv", "")


def c16(frames: Frames) -> Verdict:
    """Rule: in the panel of rates x init stds (validation accuracy at the last step) BN is less sensitive.

    Two cases, paired by seed, each with its 95% interval above 0: (i) range of accuracy over the init stds,
    each arm at its own best rate (that of its best mean cell), baseline - BN; (ii) share of cells within 1
    point of the same seed's best cell, BN - baseline. Cells that one arm lacks are left out; NaN counts as 0.
    """
    cells = tidy.panel(need(frames, "sensitivity_mnist"))
    missing = int(cells.isna().any(axis=1).sum())
    cells = cells.dropna()
    if cells.empty or not {"baseline", "bn"} <= set(cells.columns):
        raise MissingData("no cell of the panel has both arms")
    spread, robust = {}, {}
    for arm in ("baseline", "bn"):
        table = cells[arm].unstack("seed")  # index (optim.lr, model.init_std)
        best_rate = table.mean(axis=1).idxmax()[0]
        at_best = table.xs(best_rate, level="optim.lr")
        spread[arm], robust[arm] = at_best.max() - at_best.min(), (table >= table.max() - 0.01).mean()
    wider = statistics.paired_bootstrap(spread["baseline"], spread["bn"])
    larger = statistics.paired_bootstrap(robust["bn"], robust["baseline"])
    cases = [
        Case("accuracy range over init std, baseline - BN", "points", wider, float(wider.low > 0), wider.low),
        Case(
            "cells within 1 point of the best, BN - baseline",
            "points",
            larger,
            float(larger.low > 0),
            larger.low,
        ),
    ]
    note = f"{missing} cells left out" if missing else ""
    return judge("C16", cases, "experiment=sensitivity_mnist", FIGURE1, note)


JUDGES = {"C1": c1, "C2": c2, "C3": c3, "C16": c16}
JUDGES |= {claim: lambda frames, claim=claim: exact(claim, frames) for claim in ("C4", "C5", "C6")}
