"""Errors in one line that says what to do: Hydra's long ones become short, with the nearest known names."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from typing import Any

from bnrepro.config.checks import nearest
from bnrepro.config.parts import InceptionConfig, MLPConfig
from bnrepro.config.schema import Config


def settings(node: Any = Config, prefix: str = "") -> list[str]:
    """All settings by their dotted names, of both networks."""
    names = settings(InceptionConfig, "model.") if node is Config else []
    for field in fields(node):
        inner = field.default_factory
        inside = isinstance(inner, type) and is_dataclass(inner)
        names += settings(inner, f"{prefix}{field.name}.") if inside else [prefix + field.name]
    return names


def one_line(error: BaseException) -> str:
    """The message of `error` on one line; for an unknown setting or option with the nearest known ones."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    text = " ".join(" ".join(str(e).split()) for e in causes if str(e))
    if missing := re.search(r"Could not find '([\w/]+)/([^']+)'.*?Available options in '[^']+': ?(.*)", text):
        group, name, known = missing[1], missing[2], missing[3].partition("Config search path")[0].split()
        return f"{group}={name}: no such {group}{nearest(name, known)}; there are {', '.join(known)}"
    if unknown := re.search(r"Could not override '([^']+)'|Key '([^']+)' (?:is )?not in", text):
        key = unknown[1] or unknown[2]
        if key in settings():
            only = "inception" if key in settings(InceptionConfig, "model.") else MLPConfig.name
            return f"{key}: only for model={only}"
        return f"{key}: no such setting{nearest(key, settings())}; --help lists them all"
    if "Config group override must be a string" in text:
        return "a group (experiment, variant, data, model, record) takes a name; leave it out instead of null"
    if override := re.search(r"Error merging override (\S+)", text):
        reason = re.search(r"Value .*? could not be converted to \w+", text)
        return f"{override[1]}: {reason[0] if reason else 'not a value of this setting'}"
    return " ".join(str(error).split()) or type(error).__name__
