"""Errors in one line that says what to do: Hydra's long ones become short, with the nearest known names."""

from __future__ import annotations

import functools
import re
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from bnrepro.config.checks import nearest
from bnrepro.config.parts import InceptionConfig, MLPConfig, RayConfig, SlurmConfig
from bnrepro.config.schema import Config


@functools.cache
def kinds() -> dict[str, Any]:
    """The type of each setting by its dotted name, of both networks; `Any` for one that has several."""

    def inside(node: Any, prefix: str) -> dict[str, Any]:
        found, hints = {}, get_type_hints(node)
        for field in fields(node):
            part = field.default_factory
            deeper = isinstance(part, type) and is_dataclass(part)
            found |= (
                inside(part, f"{prefix}{field.name}.") if deeper else {prefix + field.name: hints[field.name]}
            )
        return found

    return inside(InceptionConfig, "model.") | inside(Config, "")


def one_line(error: BaseException) -> str:
    """The message of `error` on one line; for an unknown setting or option with the nearest known ones."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    text = " ".join(" ".join(str(e).split()) for e in causes if str(e))
    if missing := re.search(r"Could not find '([\w/]+)/([^']+)'.*?Available options in '[^']+': ?(.*)", text):
        group, name, known = missing[1], missing[2], missing[3].partition("Config search path")[0].split()
        own = "; your own: a file conf/experiment/NAME.yaml, or other settings with output=FOLDER"
        hint = own if group == "experiment" else ""
        return f"{group}={name}: no such {group}{nearest(name, known)}; there are {', '.join(known)}{hint}"
    if unknown := re.search(r"Could not override '([^']+)'|Key '([^']+)' (?:is )?not in", text):
        key = unknown[1] or unknown[2]
        if key in kinds():
            inception = key in {f"model.{field.name}" for field in fields(InceptionConfig)}
            return f"{key}: only for model={'inception' if inception else MLPConfig.name}"
        if key.startswith("hydra.launcher."):
            names = [f"hydra.launcher.{f.name}" for part in (SlurmConfig, RayConfig) for f in fields(part)]
            return f"{key}: no such setting of this launcher{nearest(key, names)}; docs/cluster.md lists them"
        return f"{key}: no such setting{nearest(key, kinds())}; --help lists them all"
    if override := re.search(r"Error merging override (\S+)", text):
        reason = re.search(r"Value .*? could not be converted to \w+", text)
        return f"{override[1]}: {reason[0] if reason else 'not a value of this setting'}"
    if isinstance(error, KeyError):  # its text is the key alone
        return f"{type(error).__name__} {error}"
    return " ".join(str(error).split()) or type(error).__name__
