"""Stochastic gradient descent with momentum, and the learning rate of each step."""

from __future__ import annotations

import torch
from torch import Tensor

from bnrepro.config import REFERENCE_BATCH, Config, OptimConfig

Tensors = dict[str, Tensor]


def learning_rates(cfg: Config, start: int, stop: int) -> Tensor:
    """The rates of steps start..stop-1, shape (stop - start,), float32.

    Step 0 has lr * lr_scale, with batch_rule=linear times batch_size / 60.
    """
    optim, step = cfg.optim, torch.arange(start, stop, dtype=torch.float64)
    power = optim.decay_times * step / cfg.decay_steps
    match optim.schedule:
        case "exponential":
            factor = optim.decay**power
        case "step":
            factor = optim.decay ** torch.floor(power)
        case _:
            factor = torch.ones_like(step)
    scale = cfg.data.batch_size / REFERENCE_BATCH if optim.batch_rule == "linear" else 1.0
    return (optim.lr * optim.lr_scale * scale * factor).float()


def sgd_(params: Tensors, grads: Tensors, velocity: Tensors, lr: Tensor, cfg: OptimConfig) -> None:
    """Update params (and velocity, if momentum > 0) in place, as torch.optim.SGD does.

    g = grad + weight_decay * p;  v = momentum * v + g;  p = p - lr * v

    Weight decay (L2) is for matrices and kernels: biases, gamma and beta have none.
    """
    for name, p in params.items():
        g = grads[name]
        if cfg.weight_decay and p.ndim > 1:
            g = g + cfg.weight_decay * p
        if cfg.momentum:
            g = velocity[name].mul_(cfg.momentum).add_(g)
        p.sub_(lr * g)
