"""One training step of one replica: loss, gradient, update. One function, which every engine runs its own way."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from bnrepro.config import OptimConfig
from bnrepro.models import Model
from bnrepro.training.optim import Tensors, sgd_

Step = Callable[[Tensors, Tensors, Tensors, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
Transform = Callable[[Callable[..., Tensor]], Callable[..., tuple[Tensors, Tensor]]]


def autograd_and_value(loss: Callable[..., Tensor]) -> Callable[..., tuple[Tensors, Tensor]]:
    """(gradients, loss) of a loss with respect to its first argument, as torch.func.grad_and_value's.

    By plain autograd: twice as fast run as it is, and without 5 s of imports at the first call.
    """

    def gradient(params: Tensors, *rest: object) -> tuple[Tensors, Tensor]:
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        value = loss(leaves, *rest)
        grads = torch.autograd.grad(value, list(leaves.values()))
        return dict(zip(leaves, grads, strict=True)), value.detach()

    return gradient


def make_step(
    model: Model, cfg: OptimConfig, transform: Transform = autograd_and_value, autocast: bool = False
) -> Step:
    """step(params, buffers, velocity, x, labels, lr, key, dropout_rate) -> loss; updates the first three in place.

    x (m, 784) or (m, 3, H, W), labels (m,) int64, lr () float32, key (2,) int64: seed and step, for dropout,
    dropout_rate () float32. What differs between replicas is an argument, so that one step serves them all.
    `transform` makes loss and gradients of the loss: torch.func.grad_and_value where replicas are stacked by
    vmap.
    """
    model.train()

    def loss(
        params: Tensors, buffers: Tensors, x: Tensor, labels: Tensor, key: Tensor, dropout_rate: Tensor
    ) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, autocast):
            logits, _ = functional_call(model, (params, buffers), (x, key, dropout_rate))
        return cross_entropy(logits.float(), labels)

    gradient = transform(loss)

    def step(params, buffers, velocity, x, labels, lr, key, dropout_rate):
        grads, value = gradient(params, buffers, x, labels, key, dropout_rate)
        sgd_(params, grads, velocity, lr, cfg)
        return value

    return step
