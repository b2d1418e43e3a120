"""What identifies a run, and which runs share a step: functions of its configuration."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from bnrepro.config import HOW, Config


def packable(cfg: Config) -> str:
    """Runs of equal value share all shapes and steps, so that one compiled step trains them together."""
    free = {"experiment", "variant", "regime", "seeds", "output", "record"}
    kept: dict[str, Any] = {key: node for key, node in asdict(cfg).items() if key not in free}
    for key in ("lr", "lr_scale", "schedule", "decay", "decay_steps", "batch_rule"):
        del kept["optim"][key]
    kept["model"] |= {"init_std": 1.0, "init_scale": 1.0, "dropout": kept["model"]["dropout"] > 0}
    return json.dumps(kept, sort_keys=True)


def address(cfg: Config) -> str:
    """A run's folder as a function of its hyperparameters: <experiment>/<variant>/<readable>-<hash>."""

    def kept(node: Any, prefix: str = "") -> Any:
        if not isinstance(node, dict):
            return node
        return {k: kept(v, f"{prefix}{k}.") for k, v in node.items() if prefix + k not in HOW}

    identity = kept(asdict(cfg))
    if cfg.data.name == "imagefolder":  # the others' images are known by their names
        identity["data"]["root"] = cfg.data.root
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    readable = f"lr{cfg.optim.lr:g}-std{cfg.model.init_std:g}-b{cfg.data.batch_size}-n{len(cfg.seeds)}"
    return f"{cfg.experiment}/{cfg.variant}/{readable}-{digest}"
