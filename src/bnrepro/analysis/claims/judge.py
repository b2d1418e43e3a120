"""What a verdict is, and how the cases of a claim add up to one."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from bnrepro.analysis.frame import MissingData
from bnrepro.analysis.report import format_interval
from bnrepro.analysis.statistics import Interval

Frames = dict[str, pd.DataFrame]  # by the name of the file in results/, without its ending


@dataclass(frozen=True)
class Verdict:
    claim: str
    verdict: str  # reproduced, partly, not reproduced, not tested
    effect: float = np.nan  # of the weakest case; low and high are its 95% interval
    low: float = np.nan
    high: float = np.nan
    n: int = 0  # seeds; for exact identities, numbers compared
    config: str = ""
    notebook: str = ""
    measure: str = ""  # what the effect is
    unit: str = ""  # accuracy, points, steps, ratio, error (format_interval)
    note: str = ""


class Case(NamedTuple):
    measure: str
    unit: str
    interval: Interval
    grade: float  # 1: the rule holds, 0.5: it half holds, 0: it does not
    margin: float  # from "no effect" to the interval's nearer end, positive on the claimed side
    note: str = ""


def judge(
    claim: str, cases: list[Case], config: str, notebook: str, note: str = "", most: str = ""
) -> Verdict:
    grades = [case.grade for case in cases]
    verdict = "reproduced" if min(grades) == 1 else "not reproduced" if max(grades) == 0 else "partly"
    if verdict == "reproduced" and most:
        verdict = most
    weakest = min(cases, key=lambda case: (case.grade, np.nan_to_num(case.margin, nan=-np.inf)))
    each = [f"{c.measure} {format_interval(c.unit, *c.interval[:3])}{c.note}" for c in cases]
    return Verdict(
        claim,
        verdict,
        *weakest.interval,
        config=config,
        notebook=notebook,
        measure=weakest.measure,
        unit=weakest.unit,
        note="; ".join([*each, *([note] if note else [])]),
    )


def need(frames: Frames, name: str) -> pd.DataFrame:
    if name not in frames:
        raise MissingData(f"results/{name}.* is not there")
    return frames[name]
