"""The command line's arguments, looked at before Hydra sees them: what it would take silently, or refuse at length."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, RangeSweep
from hydra.errors import HydraException

from bnrepro.config.checks import ConfigError, check, nearest
from bnrepro.config.refusal import kinds

GROUPS = ("experiment", "variant", "data", "model", "record", "debug")
FLAGS = (
    "-m",
    "--multirun",
    "--help",
    "-h",
    "--hydra-help",
    "--version",
    "--cfg",
    "-c",
    "--resolve",
    "--info",
    "-i",
    "--format",
)
WITH_A_WORD = ("--cfg", "-c", "--info", "-i", "--format")
FORMATS = ("table", "csv", "json")  # of what is printed at the end
OWN = re.compile(r"hydra/launcher|hydra\.launcher(\.[a-z]\w*)+|hydra\.verbose")  # what of Hydra's may be set
OTHERS = {
    "hydra/sweeper": "the sweep is Hydra's basic one; to tune settings there is scripts/tune.py",
    "hydra.sweeper.params": "write the axis itself, as in variant=baseline,bn",
}
MOST_JOBS = 10_000


class Axis(NamedTuple):
    """One argument: the setting, and the arguments of single jobs that it stands for."""

    key: str
    values: list[str]  # "optim.lr=0.1", "optim.lr=0.5"
    swept: bool

    def __str__(self) -> str:
        """As one argument again."""
        if not self.swept:
            return self.values[0]
        return f"{self.key}={','.join(value.partition('=')[2] for value in self.values)}"


def arguments(given: list[str]) -> tuple[list[str], list[str]]:
    """(flags, settings) of a command line, in any order. Raises ConfigError for a flag that is not known."""
    flags, settings, words = [], [], iter(given)
    for word in words:
        if not word.startswith("-"):
            settings.append(word)
            continue
        name = word.partition("=")[0]
        hint = f"{nearest(word, FLAGS)}; settings are written name=value, see --help"
        check(name in FLAGS, f"{word}: no such option{hint}")
        flags.append(word)
        if name in WITH_A_WORD and "=" not in word:
            flags += [next(words, "all" if name != "--format" else "")]
    return flags, settings


def without_format(flags: list[str]) -> tuple[list[str], str]:
    """The flags that are Hydra's, and which of FORMATS is asked for. Raises ConfigError."""
    words = iter(flags)
    kept, how = [], "table"
    for word in words:
        if word.partition("=")[0] == "--format":
            how = word.partition("=")[2] or next(words)
            check(how in FORMATS, f"--format {how}: one of {', '.join(FORMATS)}")
        else:
            kept.append(word)
    return kept, how


def axes(given: Iterable[str], loader: Any) -> list[Axis]:
    """The settings of a command line, checked. Raises ConfigError. loader: Hydra's, which knows the files of groups.

    Of a setting that is given twice the last has the word, as in a shell.
    """
    last: dict[str, Axis] = {}
    for axis in (_axis(argument, loader) for argument in given):
        last.pop(axis.key, None)
        last[axis.key] = axis
    return list(last.values())


def _axis(argument: str, loader: Any) -> Axis:
    override = _parsed(argument, loader)
    key = override.key_or_group
    added = override.type is not OverrideType.CHANGE
    check(
        not added,
        f"{argument}: settings are changed, not added or deleted; leave out the sign before {key or 'it'}",
    )
    check(override.package is None, f"{argument}: no @package here")
    check(bool(key), f"{argument}: a setting has a name, as in optim.lr=0.1")
    if key.startswith("hydra"):
        hint = next(
            (words for name, words in OTHERS.items() if key.startswith(name)), "not a setting of this program"
        )
        check(OWN.fullmatch(key) is not None, f"{argument}: {hint}")
    values = _values(override)
    for value in values:
        _check_value(key, value, argument, loader)
    if not override.is_sweep_override():
        return Axis(key, [str(override.input_line)], False)
    written = [str(v) for v in values] if _is_range(override) else list(override.sweep_string_iterator())
    check(bool(written), f"{argument}: stands for no value")
    return Axis(key, [f"{key}={value}" for value in written], True)


def _parsed(argument: str, loader: Any) -> Override:
    check("=" in argument, f"{argument}: a setting is written name=value, as in optim.lr=0.1")
    name, _, value = argument.partition("=")
    if value.startswith("~/") or value == "~":
        value = quoted(os.path.expanduser(value))
    check(len(argument) < 4000, f"{argument[:40]}...: {len(argument):,} letters are too many")
    try:
        return OverridesParser.create(config_loader=loader).parse_overrides([f"{name}={value}"])[0]
    except (HydraException, RecursionError, ValueError) as error:
        check(",," not in value.replace(" ", ""), f"{argument}: nothing stands between two commas")
        written = f"{name}={quoted(value)}".replace("'", "'\\''")
        raise ConfigError(f"{argument}: cannot be read; in quotes it can: '{written}'") from error


def quoted(value: str) -> str:
    """A text as Hydra's grammar takes any: `name={quoted(text)}`."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _is_range(override: Override) -> bool:
    return override.is_sweep_override() and isinstance(override.value(), RangeSweep)


def _values(override: Override) -> list[Any]:
    """A range of decimals is exact: its third value is 0.3, not 0.30000000000000004, which is another address."""
    if not override.is_sweep_override():
        return [override.value()]
    sweep = override.value()
    if not isinstance(sweep, RangeSweep):
        return list(override.sweep_iterator())
    start, stop, step = (Decimal(repr(x)) for x in (sweep.start, sweep.stop, sweep.step))
    usable = step != 0 and all(x.is_finite() for x in (start, stop, step))
    check(usable, f"{override.input_line}: not a range")
    count = max(0, math.ceil((stop - start) / step))
    check(
        count <= MOST_JOBS,
        f"{override.input_line}: {count:,} values; at most {MOST_JOBS:,} jobs in one sweep",
    )
    values = [start + k * step for k in range(count)]
    whole = isinstance(sweep.start, int) and isinstance(sweep.step, int)
    return [int(v) if whole else float(v) for v in values]


def _check_value(key: str, value: Any, argument: str, loader: Any) -> None:
    text = str(value)
    check("${" not in text, f"{argument}: ${{...}} is not filled in here; write the value")
    check(text != "???", f"{argument}: ??? stands for a value that is missing")
    if key in GROUPS or key == "hydra/launcher":
        check(value is not None, f"{argument}: {key} takes a name; leave it out instead of null")
        known = loader.get_group_options(key)
        named = isinstance(value, str) and value in known
        check(named, f"{key}={text}: no such {key}{nearest(text, known)}; there are {', '.join(known)}")
    elif kinds().get(key) is bool:
        check(isinstance(value, bool), f"{argument}: true or false")
    elif any(name.startswith(f"{key}.") for name in kinds()):
        raise ConfigError(f"{argument}: {key} holds several settings; set one, as in {key}.name=value")
