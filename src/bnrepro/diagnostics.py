"""Why it works: covariate shift, the landscape along a step, gradients, layer Jacobians, saturated units.

Everything is measured on one batch of m examples by the network in training mode: BN normalizes by the
statistics of that batch, and dropout and injected noise are those of `key` wherever the loss is taken.
The work is done on a float64 copy of the model, so that the model is left as it is and a small difference
of two gradients is not rounding. Layers are named hidden1 ... hidden<depth>, classifier.

Santurkar et al. 2018 (arXiv:1805.11604) are followed for internal covariate shift and for the landscape,
Ioffe & Szegedy 2015, section 3.3, for the Jacobians.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from bnrepro.models import MLP

Tensors = dict[str, Tensor]
Gradient = Callable[[Tensors], tuple[Tensor, Tensors]]  # parameters -> loss, gradients

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the learning rate: the steps along the gradient (range ours)
EXAMPLES = 8  # whose Jacobians are taken: the first ones of the batch
FLOOR = 1e-4  # a singular value below it counts as 1e-4: a ReLU's inactive units make exact zeros
FLAT = 0.05  # a unit is saturated where its nonlinearity's slope is below 5% of the steepest


@torch.enable_grad()
def diagnose(
    model: MLP, x: Tensor, labels: Tensor, next_x: Tensor, next_labels: Tensor, key: Tensor, lr: float
) -> dict[str, float]:
    """All diagnostics of one batch, {name: value}; all NaN for a net whose loss is not finite.

    x (m, inputs), labels (m,) int64, key (2,) int64, lr the rate of the SGD step (no momentum). The next
    batch serves `ics_next` only. The model's parameters, buffers, gradients and mode are not touched.
    gradient/<layer>/norm: l2 norm of the loss gradient with respect to the layer's weight matrix; the other
    names stand where they are made.
    """
    model = copy.deepcopy(model).double().train()
    x, next_x, lr = x.double(), next_x.double(), float(lr)
    params = {name: p.detach() for name, p in model.named_parameters()}
    here, there = gradient_of(model, x, labels, key), gradient_of(model, next_x, next_labels, key)
    weights, (value, grads) = weight_names(model), here(params)
    stepped = {name: p - lr * grads[name] for name, p in params.items()}
    found = {f"gradient/{layer}/norm": grads[name].norm() for layer, name in weights.items()}
    found |= covariate_shift("ics", weights, here, params, stepped)
    found |= covariate_shift("ics_next", weights, there, params, stepped)
    found |= {"landscape/loss": value, **landscape(here, params, grads, lr)}
    for k, (mapped, u, h) in enumerate(hidden_layers(model, x, key), start=1):
        found |= saturation(f"units/hidden{k}", slope(model.activation, u))
        if k > 1:
            weight = model.weights()[k - 1].detach()
            found |= singular_values(f"jacobian/hidden{k}", jacobians(h, mapped, weight))
            found |= singular_values(f"jacobian_linear/hidden{k}", jacobians(u, mapped, weight))
    return {name: float(v) if value.isfinite() else float("nan") for name, v in found.items()}


def gradient_of(model: MLP, x: Tensor, labels: Tensor, key: Tensor) -> Gradient:
    """The function parameters -> (mean cross-entropy of the batch in nats, its gradients by name).

    Buffers are given to the model as copies, so that each call starts from the same ones.
    """

    def gradient(params: Tensors) -> tuple[Tensor, Tensors]:
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        buffers = {name: b.clone() for name, b in model.named_buffers()}
        logits, _ = functional_call(model, (leaves, buffers), (x, key))
        loss = cross_entropy(logits, labels)
        grads = torch.autograd.grad(loss, list(leaves.values()))
        return loss.detach(), dict(zip(leaves, grads, strict=True))

    return gradient


def weight_names(model: MLP) -> dict[str, str]:
    """{layer: the name of its weight matrix} in layer order, the classifier's last."""
    name_of = {id(p): name for name, p in model.named_parameters()}
    names = [name_of[id(weight)] for weight in model.weights()]
    return {**{f"hidden{k}": name for k, name in enumerate(names[:-1], start=1)}, "classifier": names[-1]}


def length(tensors: Tensors) -> Tensor:
    """The l2 norm of several tensors as one vector."""
    return torch.stack([t.square().sum() for t in tensors.values()]).sum().sqrt()


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
        found[f"{family}/{layer}/l2"] = (g - after).norm()
        found[f"{family}/{layer}/cosine"] = (g * after).sum() / (g.norm() * after.norm())
    return found


def landscape(gradient: Gradient, params: Tensors, grads: Tensors, lr: float) -> Tensors:
    """Loss and gradient of the same batch at params - s * grads for s = lr * {1/4, 1/2, 1, 2, 4}.

    All parameters move together. loss_low, loss_high: the lowest and highest loss of the five points;
    gradient_change: the largest |grad(point) - grads|_2; gradient_norm: |grads|_2 at the start;
    smoothness: the largest |grad(point) - grads|_2 / |point - params|_2, an effective beta (NaN for lr = 0).
    """
    losses, changes, norm = [], [], length(grads)
    for factor in FACTORS:
        value, there = gradient({name: p - lr * factor * grads[name] for name, p in params.items()})
        losses.append(value)
        changes.append(length({name: there[name] - g for name, g in grads.items()}))
    loss, change = torch.stack(losses), torch.stack(changes)  # stacked: their min and max keep a NaN
    distance = lr * norm * torch.tensor(FACTORS, dtype=norm.dtype, device=norm.device)
    return {
        "landscape/loss_low": loss.min(),
        "landscape/loss_high": loss.max(),
        "landscape/gradient_norm": norm,
        "landscape/gradient_change": change.max(),
        "landscape/smoothness": (change / distance).max(),
    }


def hidden_layers(model: MLP, x: Tensor, key: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(Wx + b, the input u of the nonlinearity, the output h) of each hidden layer in turn."""
    for i, linear in enumerate(model.hidden):
        caught: list[Tensor] = []
        hook = linear.register_forward_hook(lambda *call, caught=caught: caught.append(call[2]))
        u, h = model.layer(i, x.detach().requires_grad_(), key)
        hook.remove()
        yield caught[0], u, h
        x = h


def jacobians(outputs: Tensor, mapped: Tensor, weight: Tensor, examples: int = EXAMPLES) -> Tensor:
    """d outputs[e] / d x[e] = (d outputs[e] / d mapped[e]) W of the first examples e, (examples, units, in).

    mapped = Wx + b, (m, units). The batch's statistics move with the example, which is part of the
    derivative; what the example does to the outputs of others is not. BN and nonlinearities act on each unit
    by itself, so that the first factor is diagonal and takes one backward pass; where random signs show that
    it is not (layer or group normalization), it takes one for each unit.
    """
    (m, units), found = outputs.shape, []
    signs = 1 - 2 * (torch.arange(units, device=outputs.device) * 0.618 % 1 < 0.5).to(outputs.dtype)

    def pulled(weights: Tensor, example: int) -> Tensor:
        pick = torch.zeros_like(outputs)
        pick[example] = weights
        return torch.autograd.grad(outputs, mapped, pick, retain_graph=True)[0][example]

    for example in range(min(examples, m)):
        diagonal = pulled(torch.ones_like(signs), example)
        if torch.allclose(pulled(signs, example), signs * diagonal, rtol=1e-6, atol=1e-12):
            found.append(diagonal[:, None] * weight)
        else:
            found.append(torch.stack([pulled(row, example) for row in torch.diag(signs.abs())]) @ weight)
    return torch.stack(found).detach()


def singular_values(prefix: str, matrices: Tensor) -> Tensors:
    """Of all singular values s of all matrices: median s; standard deviation and distance from 1 of log10 s.

    log_spread = std(log10 s), from_one = mean |log10 s|, with s < FLOOR counted as FLOOR in both.
    """
    s = torch.linalg.svdvals(matrices.nan_to_num()).flatten()  # LAPACK refuses the NaN of a diverged net
    decades = s.clamp_min(FLOOR).log10()
    return {
        f"{prefix}/median": s.quantile(0.5),
        f"{prefix}/log_spread": decades.std(correction=0),
        f"{prefix}/from_one": decades.abs().mean(),
    }


def slope(activation: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    """The derivative of an elementwise nonlinearity at u as a share of its steepest on [-8, 8]."""
    both = torch.cat([u.detach().flatten(), torch.linspace(-8, 8, 1601, dtype=u.dtype, device=u.device)])
    derivative = torch.autograd.grad(activation(both.requires_grad_()).sum(), both)[0]
    return derivative[: u.numel()].view_as(u) / derivative[u.numel() :].max()


def saturation(prefix: str, slopes: Tensor) -> Tensors:
    """saturated: the share of (example, unit) with a slope below FLAT; dead: of units that are so for all.

    slopes (m, units), relative to the steepest. A ReLU is saturated where its input is at most 0.
    """
    flat = slopes < FLAT
    return {f"{prefix}/saturated": flat.double().mean(), f"{prefix}/dead": flat.all(0).double().mean()}
