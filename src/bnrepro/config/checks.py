"""Refusals of a setting, in one line each."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable


class ConfigError(ValueError):
    """A setting that cannot be trained with; the message is one line and says what to change."""


def check(ok: bool, message: str) -> None:
    if not ok:
        raise ConfigError(message)


def one_of(key: str, value: str, known: tuple[str, ...]) -> None:
    check(value in known, f"{key}={value}: choose one of {', '.join(known)}{nearest(value, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint " (did you mean a or b?)", or nothing where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=2, cutoff=0.5)
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def positive(key: str, value: float) -> None:
    check(math.isfinite(value) and value > 0, f"{key}={value}: must be a finite number above 0")


def between(key: str, value: float, low: float, high: float) -> None:
    check(math.isfinite(value) and low <= value <= high, f"{key}={value}: must be from {low:g} to {high:g}")


def not_negative(key: str, value: float, below: float = math.inf) -> None:
    bound = "" if below == math.inf else f" and below {below:g}"
    check(math.isfinite(value) and 0 <= value < below, f"{key}={value}: must be at least 0{bound}")
