"""A whole configuration: its parts, the checks that span them, and the values that follow from others."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from bnrepro.config.checks import check
from bnrepro.config.compatibility import check_together
from bnrepro.config.parts import (
    DataConfig,
    EvalConfig,
    MLPConfig,
    ModelConfig,
    OptimConfig,
    RecordConfig,
    TrainConfig,
)

# Where and how a run is carried out, and what it writes: it cannot change the run's numbers beyond rounding.
# No part of its address (but for an image folder's root and for corrupt images: address.py), and never published: no
# path or machine
# enters results/.
HOW = (
    *("output", "record", "data.root", "data.cache", "data.decode"),
    *("train.device", "train.engine", "train.workers", "train.checkpoint_seconds", "train.memory"),
)


MOST_SEED = 2**31
MOST_EVALUATIONS = 1_000_000


PATHS = ("output", "data.root", "data.cache")  # they name this machine's folders, and leave it nowhere


@dataclass
class Config:
    experiment: str = "scratch"  # folder of the runs; experiment= sets it with all that a figure needs
    variant: str = "baseline"  # which net: set by variant=
    regime: str = "default"  # names a hyperparameter rule in tables, for example paper_like or tuned
    seeds: Any = 1  # a number of seeds (0, 1, ...), a list of them, or a range such as 10-39
    output: str = "outputs"  # folder of all runs
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=MLPConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    record: RecordConfig = field(default_factory=RecordConfig)

    def __post_init__(self) -> None:
        self.seeds = _seeds(self.seeds)
        check_together(self.data, self.model, self.train, self.eval)
        first = self.steps // 4 // self.eval.first if self.eval.first else 0
        many = self.steps // self.every + first
        words = (
            f"eval: {many:,} evaluations in {self.steps:,} steps; at most {MOST_EVALUATIONS:,}, so set eval."
        )
        check(many <= MOST_EVALUATIONS, words + ("first" if first > MOST_EVALUATIONS / 2 else "every"))
        check(bool(self.output.strip()), "output=: names the folder of all runs, as in output=outputs")
        longest = max(map(len, self.output.split("/")))
        fits = longest <= 200 and len(self.output) <= 2000
        check(fits, f"output={self.output[:60]}...: a name of more than 200 letters, or 2,000 in all")
        for key in ("experiment", "variant", "regime"):
            name = getattr(self, key)
            check(len(name) <= 100, f"{key}={name[:60]}...: more than 100 letters")
            plain = bool(name) and all(c.isalnum() or c in "_-+." for c in name) and not name.startswith(".")
            check(plain, f"{key}={name!r}: use letters, digits, '_', '-', '+' (it names a folder)")

    # Settings that follow from others are computed where they are asked for, so that they are never stale.

    @property
    def steps(self) -> int:
        """Training steps: train.steps, or what train.examples comes to."""
        if self.train.examples:
            return max(1, self.train.examples // self.data.batch_size)
        return self.train.steps

    @property
    def every(self) -> int:
        """Steps between two evaluations: eval.every, or what eval.points comes to."""
        return -(-self.steps // self.eval.points) if self.eval.points else self.eval.every

    @property
    def decay_steps(self) -> int:
        return self.optim.decay_steps or self.steps

    def resolved(self) -> dict[str, Any]:
        """All settings as plain nested values, those that follow from others filled in: for files and tables."""
        plain = asdict(self)
        plain["train"]["steps"], plain["eval"]["every"] = self.steps, self.every
        plain["optim"]["decay_steps"] = self.decay_steps
        return plain


def defaults() -> dict[str, Any]:
    """{"optim.decay": 0.1, ...}: of data, optim, train and eval, which runs of earlier versions may lack."""
    parts = {
        name: vars(part)
        for name, part in vars(Config()).items()
        if name in ("data", "optim", "train", "eval")
    }
    return {f"{part}.{name}": value for part, each in parts.items() for name, value in each.items()}


def without_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """Resolved settings for others to read: where files lie on this machine is left out."""
    data = {key: value for key, value in settings["data"].items() if f"data.{key}" not in PATHS}
    return {key: value for key, value in settings.items() if key not in PATHS} | {"data": data}


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as {"optim.lr": 0.1, ...}."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def is_how(key: str) -> bool:
    """Whether a flat setting only says how a run is carried out: see `HOW`."""
    return f"{key}.".startswith(tuple(f"{name}." for name in HOW))


def _seeds(given: Any) -> list[int]:
    seeds = list(range(min(given, 10_001))) if type(given) is int else given
    if isinstance(given, str) and (ends := re.fullmatch(r"(\d{1,9})-(\d{1,9})", given.strip())):
        first, last = int(ends[1]), int(ends[2])
        check(first <= last, f"seeds={given}: a range runs upwards, as in 10-39")
        seeds = list(range(first, min(last, first + 10_000) + 1))
    integers = isinstance(seeds, list) and len(seeds) > 0 and all(type(s) is int and s >= 0 for s in seeds)
    shown = repr(given) if isinstance(given, str) else given
    check(
        integers, f"seeds={shown}: give a number from 1 on, a range such as 10-39, or a list such as [0,1,2]"
    )
    check(max(seeds) < MOST_SEED, f"seeds={given}: a seed is below {MOST_SEED:,}")
    check(len(seeds) <= 10_000, f"seeds={given}: at most 10,000 in one run")
    repeated = sorted(s for s, count in Counter(seeds).items() if count > 1)
    check(not repeated, f"seeds={given}: {repeated} appear twice; a repeated seed is not a new sample")
    return sorted(seeds)
