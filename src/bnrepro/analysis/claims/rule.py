"""What a rule is, how its cases add up to a verdict, and how often it errs on simulated data."""

import ast
import functools
import hashlib
import inspect
import textwrap
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from bnrepro.analysis import statistics
from bnrepro.analysis.frame import MissingData
from bnrepro.analysis.report import format_interval
from bnrepro.analysis.statistics import Interval

Frames = dict[str, pd.DataFrame]  # by the name of the file in results/, without its ending
SIMULATIONS = 4_000  # of each rule and world: an error rate of 5% is known to +- 0.7 points


class Case(NamedTuple):
    """One number that the claim speaks about. It holds where its 95% interval lies beyond `least`."""

    measure: str  # what the effect is, in the reader's words
    unit: str  # accuracy, points, steps, ratio, share, error, number (report.FORMS)
    interval: Interval
    least: float  # the smallest effect of interest; anything less counts as none
    above: bool = True  # the claim is that the effect lies above `least`; False: below
    of: str = "seeds"  # what the interval's n counts
    note: str = ""

    @property
    def fate(self) -> Literal["holds", "fails", "open"]:
        """Open: the interval holds `least`, so both what the claim says and no effect of interest."""
        low, high = self.interval.low, self.interval.high
        if not self.above:
            low, high = -high, -low
        least = self.least if self.above else -self.least
        return "holds" if low > least else "fails" if high < least else "open"


@dataclass(frozen=True)
class Verdict:
    """A claim's verdict. The effect is that of its first case: the claim in the paper's words and units."""

    verdict: str  # reproduced, partly, not reproduced, inconclusive, not tested
    effect: float = np.nan
    low: float = np.nan
    high: float = np.nan
    n: int = 0
    of: str = ""
    measure: str = ""
    unit: str = ""
    config: str = ""
    notebook: str = ""
    note: str = ""  # every case


class Expected(NamedTuple):
    """`cases` alike cases of a rule on simulated data: what they show if the paper is right, and with no effect.

    kind: "mean" of normal values with standard deviation `spread` between seeds; "median" of ratios, whose
    logarithm has that deviation; "share" of `n` nets. The spread is that of earlier runs, whose seeds are not
    used again.
    """

    kind: Literal["mean", "median", "share"]
    right: float
    none: float
    spread: float
    n: int
    least: float
    above: bool = True
    cases: int = 1


@dataclass(frozen=True)
class Rule:
    """cases: measures them; its docstring is the rule in words. Raises MissingData where data are missing."""

    cases: Callable[[Frames], list[Case]]
    expected: tuple[Expected, ...]
    experiments: tuple[str, ...]  # files of results/ that it judges
    notebook: str

    def judge(self, frames: Frames) -> Verdict:
        cases = self.cases(frames)
        if not cases:
            raise MissingData("no case can be judged")
        first = cases[0]
        each = [
            f"{c.measure} {format_interval(c.unit, *c.interval[:3])}: {c.fate}"
            f" (bound {format_interval(c.unit, c.least)}, {c.interval.n} {c.of}){c.note}"
            for c in cases
        ]
        return Verdict(
            verdict([case.fate for case in cases]),
            *first.interval,
            of=first.of,
            measure=first.measure,
            unit=first.unit,
            config=", ".join(f"experiment={name}" for name in self.experiments),
            notebook=self.notebook,
            note="; ".join(each),
        )

    def fingerprint(self) -> str:
        """Hash of the code that decides: `cases`, and what it names in its own module. Words do not matter."""
        decides = self.cases.func if isinstance(self.cases, functools.partial) else self.cases
        assert isinstance(decides, FunctionType)
        found = sorted(_named(decides, {}).values())
        return hashlib.sha256("\n".join(found).encode()).hexdigest()[:12]

    def error_rates(self) -> dict[str, float]:
        """Columns of results/rules.csv: how often the rule says what, in both worlds, and its intervals' coverage."""
        rng = np.random.default_rng(zlib.crc32(repr(self.expected).encode()))
        worlds, covered, intervals = {}, 0, 0
        for world in ("right", "none"):
            fates = []
            for group in self.expected:
                truth = group.right if world == "right" else group.none
                low, high = simulated(group, truth, rng)
                covered += ((low <= truth) & (truth <= high)).sum()
                intervals += low.size
                holds, fails = (low > group.least, high < group.least)
                fates.append((holds, fails) if group.above else (fails, holds))
            holds, fails = (np.concatenate(parts, axis=1) for parts in zip(*fates, strict=True))
            partly = holds.any(1) & fails.any(1)
            worlds[world] = holds.all(1).mean(), (~holds.all(1) & ~fails.all(1) & ~partly).mean()
        return {
            "p_if_right": worlds["right"][0],
            "p_if_no_effect": worlds["none"][0],
            "p_inconclusive_if_right": worlds["right"][1],
            "coverage": covered / intervals,
        }


def verdict(fates: list[str]) -> str:
    """reproduced: every case holds; not reproduced: every case fails; partly: some hold and some fail.

    Everything else is inconclusive: some cases are open, and the others agree.
    """
    if set(fates) == {"holds"}:
        return "reproduced"
    if set(fates) == {"fails"}:
        return "not reproduced"
    return "partly" if {"holds", "fails"} <= set(fates) else "inconclusive"


def simulated(group: Expected, truth: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the 95% intervals of so many simulations x cases."""
    size = (SIMULATIONS, group.cases)
    if group.kind == "share":
        bounds = np.array([statistics.share(k, group.n)[1:3] for k in range(group.n + 1)])
        found = bounds[rng.binomial(group.n, truth, size)]
        return found[..., 0], found[..., 1]
    noise = group.spread * rng.standard_normal((*size, group.n))
    if group.kind == "mean":
        return statistics.t_bounds(truth + noise)
    return statistics.order_bounds(truth * np.exp(noise))


def need(frames: Frames, name: str) -> pd.DataFrame:
    if name not in frames:
        raise MissingData(f"results/{name}.* is not there")
    return frames[name]


def _named(function: FunctionType, found: dict[str, str]) -> dict[str, str]:
    """The function and, of its own module, the functions and constants that it names, each as text."""
    if function.__name__ in found:
        return found
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):  # what is only said can be said better
        if isinstance(node, ast.JoinedStr):
            node.values = []
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            node.value = ""
    found[function.__name__] = ast.dump(tree)
    for name in sorted(_names(tree)):
        value = function.__globals__.get(name)
        if isinstance(value, FunctionType):
            if value.__module__ == function.__module__:
                _named(value, found)
        elif _constant(value):
            found[name] = repr(value)
    return found


def _names(tree: ast.AST) -> Iterator[str]:
    return (node.id for node in ast.walk(tree) if isinstance(node, ast.Name))


def _constant(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_constant(part) for part in value)
    return isinstance(value, int | float | str)
