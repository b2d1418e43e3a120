"""One training step of one replica: loss, gradient, update, in one function to compile or to stack."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value
from torch.nn.functional import cross_entropy

from bnrepro.config import Config, ModelConfig, OptimConfig
from bnrepro.data import Dataset
from bnrepro.models import Model, build
from bnrepro.optim import Tensors, sgd_

Step = Callable[[Tensors, Tensors, Tensors, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
COMPILER = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")  # as torch picks it
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # "No CUDA runtime is found": we know
REPAID_AFTER = 10_000  # replica-steps from which the seconds of compiling are won back


def make_step(
    model: Model, cfg: OptimConfig, transform: Callable = grad_and_value, autocast: bool = False
) -> Step:
    """step(params, buffers, velocity, x, labels, lr, key, drop) -> loss; updates the first three in place.

    x (m, 784) or (m, 3, H, W), labels (m,) int64, lr () float32, key (2,) int64: seed and step, for dropout,
    drop () float32, its rate. What differs between replicas is an argument, so that one step serves them all.
    With torch.func's grad_and_value the function can be compiled, or stacked by vmap. To run as it is,
    `autograd_and_value` is the better transform: twice as fast, and without 6 s of imports at the first call.
    """
    model.train()

    def loss(
        params: Tensors, buffers: Tensors, x: Tensor, labels: Tensor, key: Tensor, drop: Tensor
    ) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, autocast):
            logits, _ = functional_call(model, (params, buffers), (x, key, drop))
        return cross_entropy(logits.float(), labels)

    gradient = transform(loss)

    def step(params, buffers, velocity, x, labels, lr, key, drop):
        grads, value = gradient(params, buffers, x, labels, key, drop)
        sgd_(params, grads, velocity, lr, cfg)
        return value

    return step


def autograd_and_value(loss: Callable[..., Tensor]) -> Callable[..., tuple[Tensors, Tensor]]:
    """torch.func.grad_and_value with respect to the first argument, by plain autograd."""

    def gradient(params: Tensors, *rest: object) -> tuple[Tensors, Tensor]:
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        value = loss(leaves, *rest)
        grads = torch.autograd.grad(value, list(leaves.values()))
        return dict(zip(leaves, grads, strict=True)), value.detach()

    return gradient


def compiled_step(cfg: Config, data: Dataset) -> Step:
    """make_step, compiled; runs that differ in rates, schedule, seeds or init share one result."""
    shared = replace(cfg.model, init_std=1.0, init_scale=1.0, dropout=0.5 * (cfg.model.dropout > 0))
    model, optim = tuple(asdict(shared).items()), (cfg.optim.momentum, cfg.optim.weight_decay)
    shapes = (data.shape, data.classes)
    return _compiled(
        model, optim, *shapes, cfg.train.autocast == "bf16", cfg.data.batch_size, data.labels.device
    )


@functools.cache
def _compiled(model: tuple, optim: tuple[float, float], shape, classes, autocast: bool, *_: object) -> Step:
    net = build(ModelConfig(**dict(model)), shape, classes)
    return traced(make_step(net, OptimConfig(momentum=optim[0], weight_decay=optim[1]), autocast=autocast))


def traced(step: Step) -> Step:
    """`step`, compiled at its first call for the shapes it is then given: later calls must have the same.

    The step is traced to plain tensor operations, on fake tensors (tracing executes nothing and changes no
    state), and the graph is given to TorchInductor. torch.compile's front end would check at every call what
    cannot change here, at a tenth of a step's time, and it has no vmap rule for an autograd.Function.
    """
    compiled: Callable[..., Any] | None = None

    def first_traced(params, buffers, velocity, *batch):
        nonlocal compiled
        leaves = [*params.values(), *buffers.values(), *velocity.values(), *batch]
        if compiled is None:
            from torch._inductor import compile as inductor  # 3 s that eager runs need not wait
            from torch.fx.experimental.proxy_tensor import make_fx

            # Tracing puts a stand-in where a CUDA device would be. If autograd's engine starts only then, it
            # has a thread for that device, and refuses to work in processes forked later. So: start it now.
            one = torch.ones((), requires_grad=True)
            torch.autograd.grad(one * one, one)

            def flat(*leaves: Any) -> list[Tensor]:
                rest = iter(leaves)
                parts: list[Any] = [dict(zip(part, rest)) for part in (params, buffers, velocity)]  # noqa: B905
                return [step(*parts, *rest)]

            made: Any = inductor(make_fx(flat, tracing_mode="fake")(*leaves), leaves)
            compiled = made
        assert compiled is not None
        return compiled(*leaves)[0]

    return first_traced


def why_not_compile(cfg: Config, replicas: int, device: torch.device) -> str | None:
    """None if steps should be compiled, else the reason in words (empty if the user asked for eager)."""
    if cfg.train.compile == "off":
        return ""
    if device.type == "cpu" and not shutil.which(COMPILER):
        return (
            f"no C++ compiler {COMPILER} found (with one, training is about 3x faster): running eager steps"
        )
    if cfg.train.compile == "auto" and cfg.model.name == "inception" and device.type == "cpu":
        return "Inception on a CPU: eager steps (compiling takes many minutes: train.compile=on)"
    if cfg.train.compile == "auto" and cfg.train.steps * replicas < REPAID_AFTER:
        return "short run: eager steps (train.compile=on to compile)"
    return None
