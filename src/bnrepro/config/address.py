"""What identifies a run, and which runs share a step: functions of its configuration.

A run's seeds are no part of its identity: they live inside the run, so that more of them can be added later.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from bnrepro.config.parts import MLPConfig, ModelConfig
from bnrepro.config.schema import Config, flat, is_how

NAMED = ("experiment", "variant", "seeds")  # the first two are folders, seeds live inside the run
WORDS = {  # of settings that sweeps vary, said in the folder's name where they are not at their default
    "model.activation": "{}",
    "model.dropout": "dropout{:g}",
    "model.placement": "{}",
    "model.affine": "noaffine",
    "model.bias": "bias{}",
    "model.bn_momentum": "bnmomentum{:g}",
    "model.depth": "depth{}",
    "optim.lr_scale": "x{:g}",
    "optim.batch_rule": "{}",
    "data.examples": "examples{}",
}
ABSORBED = ("train.examples", "eval.points")  # said by train.steps and eval.every


def identity(cfg: Config) -> dict[str, Any]:
    """The hyperparameters that differ from their defaults, flat: a new setting changes no old address."""
    settings = flat(cfg.resolved())
    usual = flat(Config().resolved() | {"model": asdict(type(cfg.model)()) | {"name": MLPConfig.name}})
    differs = {
        key: value
        for key, value in settings.items()
        if value != usual[key] and not is_how(key) and key not in (*NAMED, *ABSORBED)
    }
    if cfg.data.name == "imagefolder":  # the others' images are known by their names
        differs["data.root"] = cfg.data.root
    if cfg.data.corrupt == "skip" and cfg.data.decode == "stream":  # black there, in a cache left out
        differs["data.decode"] = cfg.data.decode
    return differs


def digest(cfg: Config) -> str:
    """What two runs have in common if and only if they are one: eight letters."""
    return _digest(identity(cfg))


def address(cfg: Config) -> str:
    """A run's folder as a function of its hyperparameters: <experiment>/<variant>/<readable>-<digest>."""
    return _address(cfg, identity(cfg), WORDS)


def place(output: Path, cfg: Config) -> Path:
    """Where a run lies below `output`: at its address, or where versions before 0.2 put it, without WORDS."""
    own = identity(cfg)
    now, before = output / _address(cfg, own, WORDS), output / _address(cfg, own, {})
    return before if before != now and before.exists() and not now.exists() else now


def _digest(own: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:8]


def _address(cfg: Config, own: dict[str, Any], words: dict[str, str]) -> str:
    spread = [f"std{cfg.model.init_std:g}"] if isinstance(cfg.model, MLPConfig) else []
    said = [word.format(own[key]) for key, word in words.items() if key in own]
    name = "-".join([f"lr{cfg.optim.lr:g}", *spread, f"b{cfg.data.batch_size}", *said, _digest(own)])
    return f"{cfg.experiment}/{cfg.variant}/{name}"


def shared_model(model: ModelConfig) -> ModelConfig:
    """`model` without what a step takes as an argument: nets of equal value share one step."""
    free = {"init_std": 1.0, "init_scale": 1.0, "dropout": 0.5 * (model.dropout > 0)}
    return replace(model, **{f.name: free[f.name] for f in fields(model) if f.name in free})


def packable(cfg: Config) -> str:
    """Runs of equal value share all shapes and steps, so that one step trains them together."""
    kept = cfg.resolved()
    for key in ("experiment", "variant", "regime", "seeds", "output", "record"):
        del kept[key]
    for key in ("lr", "lr_scale", "schedule", "decay", "decay_times", "decay_steps", "batch_rule"):
        del kept["optim"][key]
    return json.dumps(kept | {"model": asdict(shared_model(cfg.model))}, sort_keys=True)
