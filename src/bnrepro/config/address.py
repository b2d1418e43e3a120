"""What identifies a run, and which runs share a step: functions of its configuration.

A run's seeds are no part of its identity: they live inside the run, so that more of them can be added later.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields, replace
from typing import Any

from bnrepro.config.parts import MLPConfig, ModelConfig
from bnrepro.config.schema import Config, flat, is_how

NAMED = ("experiment", "variant", "seeds")  # the first two are folders, seeds live inside the run
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
    return differs


def address(cfg: Config) -> str:
    """A run's folder as a function of its hyperparameters: <experiment>/<variant>/<readable>-<hash>."""
    digest = hashlib.sha256(json.dumps(identity(cfg), sort_keys=True).encode()).hexdigest()[:8]
    spread = f"-std{cfg.model.init_std:g}" if isinstance(cfg.model, MLPConfig) else ""
    return f"{cfg.experiment}/{cfg.variant}/lr{cfg.optim.lr:g}{spread}-b{cfg.data.batch_size}-{digest}"


def shared_model(model: ModelConfig) -> ModelConfig:
    """`model` without what a step takes as an argument: nets of equal value share one step."""
    free = {"init_std": 1.0, "init_scale": 1.0, "dropout": 0.5 * (model.dropout > 0)}
    return replace(model, **{f.name: free[f.name] for f in fields(model) if f.name in free})


def packable(cfg: Config) -> str:
    """Runs of equal value share all shapes and steps, so that one step trains them together."""
    kept = cfg.resolved()
    for key in ("experiment", "variant", "regime", "seeds", "output", "record"):
        del kept[key]
    for key in ("lr", "lr_scale", "schedule", "decay", "decay_steps", "batch_rule"):
        del kept["optim"][key]
    return json.dumps(kept | {"model": asdict(shared_model(cfg.model))}, sort_keys=True)
