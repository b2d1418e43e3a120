"""Networks. A model returns (logits, taps): the taps are what the probes look at."""

from __future__ import annotations

from bnrepro.config import ModelConfig
from bnrepro.models.inception import Inception
from bnrepro.models.mlp import MLP

Model = MLP | Inception

__all__ = ["MLP", "Inception", "Model", "build"]


def build(cfg: ModelConfig, shape: tuple[int, ...] = (784,), classes: int = 10) -> Model:
    """The network that cfg.name names, for images of `shape`: (784,) or (H, W, 3)."""
    if cfg.name == "inception":
        return Inception(cfg, shape[0], classes)
    return MLP(cfg, shape[0], classes)
