"""Networks. A model returns (logits, taps): the taps are what the probes look at."""

from __future__ import annotations

from dataclasses import replace

from bnrepro.config import InceptionConfig, MLPConfig, ModelConfig
from bnrepro.models.inception import Inception
from bnrepro.models.mlp import MLP

Model = MLP | Inception

__all__ = ["MLP", "Inception", "Model", "build", "skeleton"]

_skeletons: dict[str, Model] = {}


def build(cfg: ModelConfig, shape: tuple[int, ...] = (784,), classes: int = 10) -> Model:
    """The network of this configuration, for images of `shape`: (784,) or (H, W, 3)."""
    if isinstance(cfg, InceptionConfig):
        return Inception(cfg, shape[0], classes)
    assert isinstance(cfg, MLPConfig)
    return MLP(cfg, shape[0], classes)


def skeleton(cfg: ModelConfig, shape: tuple[int, ...], classes: int) -> Model:
    """A net to be called with parameters from outside (functional_call): one object for all who ask.

    Its own parameters mean nothing. What is measured does not wait for other processes: sync is off.
    """
    alone = replace(cfg, sync=False)
    key = repr((alone, shape, classes))
    if key not in _skeletons:
        _skeletons[key] = build(alone, shape, classes)
    return _skeletons[key]
