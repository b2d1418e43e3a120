"""Nets as pure functions of (params, buffers, batches, shared): what engines apply to every replica."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.func import functional_call

from bnrepro.config import ModelConfig
from bnrepro.data import Dataset
from bnrepro.data.dataset import Images, inputs
from bnrepro.models import Model, skeleton
from bnrepro.norm import normalization_layers
from bnrepro.training.optim import Tensors


@dataclass
class Net:
    """The base of every measurement's function: which network, and how its input is made of images.

    statistics: what BN normalizes by: "moving" averages, or those of each "batch".
    """

    model: ModelConfig
    shape: tuple[int, ...]
    classes: int
    scale: float
    offset: float
    statistics: str = "moving"

    def __post_init__(self) -> None:
        skeleton(self.model, self.shape, self.classes)  # made now: not while an engine notes operations

    def module(self) -> Model:
        """In evaluation mode, but for BN that normalizes by the batch. One object: its parameters mean nothing."""
        module = skeleton(self.model, self.shape, self.classes).eval()
        if self.statistics == "batch":
            for layer in normalization_layers(module):
                layer.train()
        return module

    def forward(self, params: Tensors, buffers: Tensors, x: Tensor) -> tuple[Tensor, Tensors]:
        """Logits and taps. BN in training mode would move its running statistics: these are copies."""
        if self.statistics == "batch":
            buffers = {name: buffer.clone() for name, buffer in buffers.items()}
        return functional_call(self.module(), (params, buffers), (x,))

    def inputs(self, images: Images, rows: Tensor) -> Tensor:
        """The network's input for the images `rows`, (n,) int64."""
        return inputs(images[rows].to(rows.device), self.scale, self.offset)


def net_of(data: Dataset, model: ModelConfig, statistics: str = "moving") -> dict:
    """The arguments of a Net, for nets of this configuration on these data."""
    return {
        "model": model,
        "shape": data.shape,
        "classes": data.classes,
        "scale": data.scale,
        "offset": data.offset,
        "statistics": statistics,
    }
