"""Swap the Batch Normalization layers of any network: torch's for ours, and back. Imports torch only."""

from __future__ import annotations

import warnings
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin

from bnrepro.norm import BatchNorm

TORCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def convert(model: nn.Module, to: Literal["bnrepro", "torch"] = "bnrepro") -> nn.Module:
    """Replace each BatchNorm1d, 2d and 3d of `model` by `bnrepro.norm.BatchNorm`, or with to="torch" the other way.

    In place; returns the model, or the new layer where the model is one. Parameters and buffers are the same objects as
    before, so optimizers go on and nothing is trained anew; a layer used in two places stays one layer.

    On the way back a layer becomes the class it was converted from. Raises ValueError, before anything is changed, for
    one that never was torch's and does not say what it is (`layer.torch_class = nn.BatchNorm2d`), for our other
    normalizations, which torch does not have, and for lazy layers that have not seen a batch. nn.SyncBatchNorm, which
    needs processes to talk to, is left with a warning.
    """
    if to not in ("bnrepro", "torch"):
        raise ValueError(f'to={to!r}: "bnrepro" or "torch"')
    swapped: dict[nn.Module, nn.Module] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm) and (new := _other(layer, name or "the model", to)) is not None:
            swapped[layer] = new
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child in swapped:
                parent._modules[name] = swapped[child]
    return swapped.get(model, model)


def _other(layer: _BatchNorm, name: str, to: str) -> _BatchNorm | None:
    """The layer that takes this one's place; None where it stays."""
    if isinstance(layer, LazyModuleMixin):
        raise ValueError(f"{name}: a lazy layer has no features yet; give the model a batch first")
    if isinstance(layer, nn.SyncBatchNorm):
        warnings.warn(f"{name}: nn.SyncBatchNorm is left as it is", stacklevel=3)
        return None
    if to == "bnrepro":
        return _filled(BatchNorm, layer) if type(layer) in TORCH else None
    if not isinstance(layer, BatchNorm):
        return None
    if type(layer) is not BatchNorm:
        raise ValueError(f"{name}: torch has no {type(layer).__name__}")
    if layer.torch_class is None:
        raise ValueError(
            f"{name}: 1d, 2d or 3d? Set layer.torch_class = nn.BatchNorm1d, or another, and convert again"
        )
    return _filled(layer.torch_class, layer)


def _filled(kind: type[_BatchNorm], layer: _BatchNorm) -> _BatchNorm:
    # On the meta device nothing is allocated: every tensor is the old layer's.
    new = kind(
        layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats, device="meta"
    )
    new._parameters.update(layer._parameters)
    new._buffers.update(layer._buffers)
    if isinstance(new, BatchNorm):
        new.torch_class = type(layer)
    return new.train(layer.training)
