"""Why it works: covariate shift, the landscape along a step, gradients, layer Jacobians, saturated units.

Everything is measured on one batch of m examples by the network in training mode: BN normalizes by the
statistics of that batch, and dropout and injected noise are those of `key` wherever the loss is taken.
The work is done in float64 on copies, so that the nets are left as they are and a small difference of two
gradients is not rounding. Layers are named hidden1 ... hidden<depth>, classifier.

Santurkar et al. 2018 (arXiv:1805.11604) are followed for internal covariate shift and for the landscape,
Ioffe & Szegedy 2015, section 3.3, for the Jacobians.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from bnrepro.config.address import shared_model
from bnrepro.data import Dataset
from bnrepro.data.dataset import Images
from bnrepro.measure.evaluate import Values
from bnrepro.measure.net import Net, net_of
from bnrepro.models import MLP, Model
from bnrepro.training.engines import Engine
from bnrepro.training.optim import Tensors, learning_rates
from bnrepro.training.state import State
from bnrepro.training.step import autograd_and_value

Gradient = Callable[[Tensors], tuple[Tensor, Tensors]]  # {name: (S, ...)} -> losses (S,), gradients (S, ...)

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the learning rate: the steps along the gradient (range ours)
EXAMPLES = 8  # whose Jacobians are taken: the first ones of the batch
FLAT = 0.05  # a unit is saturated where its nonlinearity's slope is below 5% of the steepest


@dataclass
class InTraining(Net):
    """A net in training mode, with dropout and noise, in float64."""

    stacks: ClassVar[bool] = False  # plain autograd: on a GPU one replica after another

    def module(self) -> Model:
        return super().module().train()


@dataclass
class LossAndGradient(InTraining):
    """(params, buffers, rows (m,), key (2,), dropout rate (), images, labels) -> mean cross-entropy, gradients."""

    def __call__(
        self,
        params: Tensors,
        buffers: Tensors,
        rows: Tensor,
        key: Tensor,
        dropout_rate: Tensor,
        images: Images,
        labels: Tensor,
    ) -> tuple[Tensor, ...]:
        x = self.inputs(images, rows).double()
        copies = {name: buffer.clone() for name, buffer in buffers.items()}  # BN moves its running statistics

        def loss(params: Tensors) -> Tensor:
            logits, _ = functional_call(self.module(), (params, copies), (x, key, dropout_rate))
            return cross_entropy(logits, labels[rows])

        grads, value = autograd_and_value(loss)(params)
        return value, *grads.values()


@dataclass
class Layers(InTraining):
    """(params, buffers, rows (m,), key (2,), dropout rate (), images) -> for each hidden layer: slopes (m, units) of
    its nonlinearity relative to the steepest; from the second on also the Jacobians of its output and of its
    nonlinearity's input, (examples, units, in) each."""

    def __call__(
        self,
        params: Tensors,
        buffers: Tensors,
        rows: Tensor,
        key: Tensor,
        dropout_rate: Tensor,
        images: Images,
    ) -> tuple[Tensor, ...]:
        net = {f"net.{name}": tensor for name, tensor in params.items()}
        net |= {f"net.{name}": buffer.clone() for name, buffer in buffers.items()}
        x = self.inputs(images, rows).double()
        return functional_call(_Layers(self.module()), net, (x, key, dropout_rate))


class _Layers(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, key: Tensor, dropout_rate: Tensor) -> tuple[Tensor, ...]:
        assert isinstance(self.net, MLP)
        found: list[Tensor] = []
        mixes = any(isinstance(norm, nn.LayerNorm | nn.GroupNorm) for norm in self.net.norms)
        for i, linear in enumerate(self.net.hidden):
            mapped = linear(x.detach()).detach().requires_grad_()
            with torch.enable_grad():
                u, h = self.net.activated(i, mapped, key, dropout_rate)
                found.append(slope(self.net.activation, u))
                weight = self.net.weights()[i].detach()
                for outputs in (h, u) if i else ():
                    found.append(jacobians(outputs, mapped, weight, mixes))
            x = h
        return tuple(found)


def diagnose(engine: Engine, state: State, data: Dataset) -> Values:
    """All diagnostics of every replica on its seed's first two mini-batches, at the rate of the step to come.

    All NaN for a net whose loss is not finite, nothing for one that has diverged. The next batch serves
    `ics_next` only. gradient/<layer>/norm: l2 norm of the loss gradient with respect to the layer's weight
    matrix; the other names stand where they are made.
    """
    batches = [engine.batches(s, 0, 2) for s in range(len(state))]
    rows, keys = (torch.stack([batch[part] for batch in batches]) for part in (0, 2))
    now = [learning_rates(r.cfg, state.step, state.step + 1) for r in state.replicas]
    lr = torch.cat(now).double()  # of a plain gradient step: the measures leave out momentum and weight decay
    dropout_rates = engine.dropout_rates.cpu()[:, None]
    wide = state.sharing(
        *({k: _double(v) for k, v in part.items()} for part in (state.params, state.buffers))
    )
    net = net_of(data, shared_model(engine.cfg.model), "batch")
    at = _gradients(engine, wide, LossAndGradient(**net), keys[:, :1], dropout_rates)
    here, there = (lambda params, b=b: at(params, rows[:, b : b + 1]) for b in range(2))
    params = {name: p.cpu() for name, p in wide.params.items()}
    weights, (value, grads) = weight_names(LossAndGradient(**net).module()), here(params)
    stepped = {name: p - _wide(lr, p) * grads[name] for name, p in params.items()}
    found = {f"gradient/{layer}/norm": lengths(grads[name]) for layer, name in weights.items()}
    found |= covariate_shift("ics", weights, here, params, stepped)
    found |= covariate_shift("ics_next", weights, there, params, stepped)
    found |= {"landscape/loss": value, **landscape(here, params, grads, lr)}
    given = [rows[:, :1], keys[:, :1], dropout_rates]
    layers = iter(engine.apply(Layers(**net), wide, given, ["images"]))
    for k in range(1, len(weights)):
        found |= saturation(f"units/hidden{k}", next(layers)[:, 0])
        if k > 1:
            for family in ("jacobian", "jacobian_linear"):
                # Taken here and not by the engine: XLA's own singular values wait for each other's threads for ever.
                s = active_singular_values(next(layers))
                found |= singular_values(f"{family}/hidden{k}", s.flatten(1))
    columns = {name: v.double().where(value.isfinite(), torch.nan).tolist() for name, v in found.items()}
    healthy = torch.stack([p.flatten(1).isfinite().all(1) for p in params.values()]).all(0).tolist()
    return [
        dict(zip(columns, row, strict=True)) if ok else {}
        for row, ok in zip(zip(*columns.values(), strict=True), healthy, strict=True)
    ]


def _gradients(
    engine: Engine, state: State, function: LossAndGradient, keys: Tensor, dropout_rates: Tensor
) -> Callable[[Tensors, Tensor], tuple[Tensor, Tensors]]:
    """(parameters, rows (S, 1, m)) -> losses (S,) and gradients of all replicas."""
    names = list(state.params)

    def gradient(params: Tensors, rows: Tensor) -> tuple[Tensor, Tensors]:
        moved = state.sharing({name: params[name].to(engine.data.device) for name in names})
        found = engine.apply(function, moved, [rows, keys, dropout_rates], ["images", "labels"])
        loss, *grads = (part[:, 0] for part in found)
        return loss, dict(zip(names, grads, strict=True))

    return gradient


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _wide(lr: Tensor, p: Tensor) -> Tensor:
    """(S,) so that it broadcasts against (S, ...)."""
    return lr.view(-1, *[1] * (p.ndim - 1))


def weight_names(model: Model) -> dict[str, str]:
    """{layer: the name of its weight matrix} in layer order, the classifier's last."""
    assert isinstance(model, MLP)
    name_of = {id(p): name for name, p in model.named_parameters()}
    names = [name_of[id(weight)] for weight in model.weights()]
    return {**{f"hidden{k}": name for k, name in enumerate(names[:-1], start=1)}, "classifier": names[-1]}


def lengths(*tensors: Tensor) -> Tensor:
    """The l2 norms, (S,), of tensors (S, ...) taken as one vector for each replica."""
    return torch.stack([t.flatten(1).square().sum(1) for t in tensors]).sum(0).sqrt()


def covariate_shift(
    family: str, weights: dict[str, str], gradient: Gradient, params: Tensors, stepped: Tensors
) -> Tensors:
    """<family>/<layer>/l2 and /cosine from the second layer on (Santurkar et al., Definition 2.1).

    G is the gradient with respect to the layer's weight matrix, G' the same after all layers before it, and
    only they, have taken their step (params -> stepped), their biases and their BN's gamma and beta included:
    |G - G'|_2 and G.G' / (|G| |G'|). Ideal: 0 and 1. The cosine is NaN where a gradient is zero.

    The definition takes step and gradients from one batch ("ics"); "ics_next" takes the gradients from the
    next batch, the one that really meets the layers that moved.
    """
    found, moved, start = {}, dict(params), gradient(params)[1]
    for k, (layer, weight) in enumerate(list(weights.items())[1:]):
        moved |= {name: value for name, value in stepped.items() if f".{k}." in name}  # "norms.0.bias"
        g, after = start[weight], gradient(moved)[1][weight]
        found[f"{family}/{layer}/l2"] = lengths(g - after)
        found[f"{family}/{layer}/cosine"] = (g * after).flatten(1).sum(1) / (lengths(g) * lengths(after))
    return found


def landscape(gradient: Gradient, params: Tensors, grads: Tensors, lr: Tensor) -> Tensors:
    """Loss and gradient of the same batch at params - s * grads for s = lr * {1/4, 1/2, 1, 2, 4}, lr (S,).

    All parameters move together. loss_low, loss_high: the lowest and highest loss of the five points;
    gradient_change: the largest |grad(point) - grads|_2; gradient_norm: |grads|_2 at the start;
    smoothness: the largest |grad(point) - grads|_2 / |point - params|_2, an effective beta (NaN for lr = 0).
    """
    losses, changes, norm = [], [], lengths(*grads.values())
    for factor in FACTORS:
        value, there = gradient({name: p - _wide(factor * lr, p) * grads[name] for name, p in params.items()})
        losses.append(value)
        changes.append(lengths(*(there[name] - g for name, g in grads.items())))
    loss, change = torch.stack(losses), torch.stack(changes)  # stacked: their min and max keep a NaN
    distance = lr * norm * torch.tensor(FACTORS, dtype=norm.dtype)[:, None]
    return {
        "landscape/loss_low": loss.amin(0),
        "landscape/loss_high": loss.amax(0),
        "landscape/gradient_norm": norm,
        "landscape/gradient_change": change.amax(0),
        "landscape/smoothness": (change / distance).amax(0),
    }


def jacobians(
    outputs: Tensor, mapped: Tensor, weight: Tensor, mixes: bool = False, examples: int = EXAMPLES
) -> Tensor:
    """d outputs[e] / d x[e] = (d outputs[e] / d mapped[e]) W of the first examples e, (examples, units, in).

    mapped = Wx + b, (m, units). The batch's statistics move with the example, which is part of the
    derivative; what the example does to the outputs of others is not. BN and nonlinearities act on each unit
    by itself, so that the first factor is diagonal and takes one backward pass. Layer and group
    normalization (`mixes`) do not, and take one for each unit.
    """
    first, device = min(examples, len(outputs)), outputs.device
    row, column = (torch.arange(n, device=device) for n in outputs.shape)

    def pulled(rows: Tensor, columns: Tensor) -> Tensor:  # bool masks; not written in place, for trace.py
        pick = (rows[:, None] & columns).to(outputs.dtype)
        return torch.autograd.grad(outputs, mapped, pick, retain_graph=True)[0]

    if mixes:  # units, but not examples
        each = [pulled(row < first, column == unit)[:first] for unit in range(len(column))]
        return (torch.stack(each, 1) @ weight).detach()
    each = [pulled(row == example, column >= 0)[example] for example in range(first)]
    return (torch.stack(each)[:, :, None] * weight).detach()


def active_singular_values(jacobian: Tensor) -> Tensor:
    """Singular values of Jacobians (..., units, in) in falling order, NaN beyond their numerical rank.

    An inactive unit, a ReLU whose input is negative, makes one of them zero whatever the weights are (and so
    does a normalization over units, which takes a direction out). Those zeros count inactive units and say
    nothing on the other directions. Zero is what is below rounding: float64's eps x size x the largest.
    """
    s = torch.linalg.svdvals(jacobian.nan_to_num())
    zero = s.amax(-1, keepdim=True) * (max(jacobian.shape[-2:]) * torch.finfo(s.dtype).eps)
    return s.where(s > zero, torch.nan)


def singular_values(prefix: str, s: Tensor) -> Tensors:
    """Of singular values s (S, count), NaN in inactive directions: median; log_spread, the standard deviation
    of log10 s; from_one, the mean of |log10 s|; gain, sqrt(mean s^2) with inactive directions as 0: the root
    mean square of the factor by which the layer scales a gradient of random direction that passes it backwards.
    """
    decades = s.log10()
    centred = decades - decades.nanmean(1, keepdim=True)
    return {
        f"{prefix}/median": s.nanquantile(0.5, 1),
        f"{prefix}/log_spread": centred.square().nanmean(1).sqrt(),
        f"{prefix}/from_one": decades.abs().nanmean(1),
        f"{prefix}/gain": s.nan_to_num().square().mean(1).sqrt(),
    }


def slope(activation: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    """The derivative of an elementwise nonlinearity at u as a share of its steepest on [-8, 8]."""
    both = torch.cat([u.detach().flatten(), torch.linspace(-8, 8, 1601, dtype=u.dtype, device=u.device)])
    with torch.enable_grad():
        both.requires_grad_()
        derivative = torch.autograd.grad(activation(both).sum(), both)[0]
    return derivative[: u.numel()].view_as(u) / derivative[u.numel() :].max()


def saturation(prefix: str, slopes: Tensor) -> Tensors:
    """saturated: the share of (example, unit) with a slope below FLAT; dead: of units that are so for all.

    slopes (S, m, units), relative to the steepest. A ReLU is saturated where its input is at most 0.
    """
    flat = slopes < FLAT
    return {
        f"{prefix}/saturated": flat.double().mean((1, 2)),
        f"{prefix}/dead": flat.all(1).double().mean(1),
    }
