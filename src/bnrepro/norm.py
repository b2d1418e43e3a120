"""Batch Normalization from scratch (Ioffe & Szegedy 2015, arXiv:1502.03167). Imports only torch.

Over a mini-batch of m values per feature (m = N, or N*H*W for convolutions, paper section 3.2):

    Algorithm 1, training    mu_B = mean(x)    var_B = mean((x - mu_B)^2)        (biased, 1/m)
                             x_hat = (x - mu_B) / sqrt(var_B + eps)
                             y = gamma * x_hat + beta
    Algorithm 2, inference   E[x] = E_B[mu_B]  Var[x] = m/(m-1) * E_B[var_B]
                             y = gamma / sqrt(Var[x] + eps) * (x - E[x]) + beta  (one fixed affine map)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def over_batch(x: Tensor) -> tuple[int, ...]:
    """The dimensions that share one statistic: all but dimension 1, the features."""
    return (0, *range(2, x.ndim))


def per_feature(v: Tensor, x: Tensor) -> Tensor:
    """Shape a (C,) vector so that it broadcasts against x of shape (N, C, ...)."""
    return v.view(-1, *[1] * (x.ndim - 2))


def widen(x: Tensor) -> Tensor:
    """Statistics of half-precision values are taken in float32, as torch takes them."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centred values, mean and biased variance of x over all dimensions but 1.

    Shapes: x (N, C, ...) -> (x - mu like x), mu (C,), var (C,).

    One value per feature is subtracted before anything is summed. The difference of two nearby floats is
    exact, so a large common offset costs no digits: neither E[x^2] - E[x]^2, which cancels, nor a rounded
    mean ever enters the variance.
    """
    dims = over_batch(x)
    first = x.detach()[(slice(1), slice(None), *[slice(1)] * (x.ndim - 2))]
    shifted = x - first
    mean_shifted = shifted.mean(dims, keepdim=True)
    centred = shifted - mean_shifted
    return centred, (first + mean_shifted).flatten(), centred.square().mean(dims)


class BatchNormTransform(torch.autograd.Function):
    """Algorithm 1: (x, gamma, beta, eps) -> (y, mu_B, var_B), with the paper's own backward pass.

    Shapes: x, y (N, C, ...); gamma, beta, mu_B, var_B (C,). mu_B and var_B carry no gradient: they feed the
    running statistics only.

    Only x and gamma are saved. The backward pass takes the statistics again with differentiable operations,
    so that the transform can be differentiated any number of times (gradgradcheck holds), and a compiler
    that sees both passes computes them once.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        centred, mu, var = moments(widen(x))
        x_hat = centred * per_feature(torch.rsqrt(var + eps), x)
        y = per_feature(gamma, x) * x_hat + per_feature(beta, x)
        return y.to(x.dtype), mu, var

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        x, gamma, _, ctx.eps = inputs
        ctx.save_for_backward(x, gamma)
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """The six equations of section 3 for a loss l, each in x_hat and 1/sigma = 1/sqrt(var_B + eps).

        As printed, equation (2) makes (var_B + eps)^(-3/2) and equation (4) multiplies it by (x - mu_B)
        once more: for a small variance a huge number times a tiny one. With x_hat every factor stays of
        order one.
        """
        x, gamma = ctx.saved_tensors
        dims = over_batch(x)
        dy = widen(grad_outputs[0])  # mu_B and var_B carry none
        centred, _, var = moments(widen(x))
        inv_sigma = per_feature(torch.rsqrt(var + ctx.eps), x)
        x_hat = centred * inv_sigma
        dx_hat = dy * per_feature(gamma, x)  # (1)
        # (2) dl/dvar, as it enters (4):  dl/dvar * 2 (x - mu) / m = -x_hat / sigma * mean(dx_hat * x_hat)
        through_var = -x_hat * (dx_hat * x_hat).mean(dims, keepdim=True)
        # (3) dl/dmu / m = -mean(dx_hat) / sigma: its second term sums deviations from the mean, which is 0
        through_mu = -dx_hat.mean(dims, keepdim=True)
        dx = inv_sigma * (dx_hat + through_var + through_mu)  # (4)
        dgamma = (dy * x_hat).sum(dims)  # (5)
        dbeta = dy.sum(dims)  # (6)
        return dx.to(x.dtype), dgamma, dbeta, None


def transform(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """BatchNormTransform of these arguments, differentiable in every mode.

    In forward mode (torch.func.jvp, jacfwd, hessian) torch differentiates the operations themselves: through a
    Function of one's own it takes nested forward derivatives for zero.
    """
    in_forward_mode = getattr(torch.autograd.forward_ad, "_current_level", -1) >= 0
    return (BatchNormTransform.forward if in_forward_mode else BatchNormTransform.apply)(x, gamma, beta, eps)


class BatchNorm(_BatchNorm):
    """Batch Normalization of (N, C) activations, (N, C, H, W) feature maps or any (N, C, ...), one code path for all.

    Arguments, parameters and buffers are those of `torch.nn.BatchNorm1d` to `3d`, and so is the base class: state_dicts
    of any age are exchangeable, and torch's own tools (convert_sync_batchnorm, swa_utils.update_bn, fuse_conv_bn_eval)
    know the layer. weight is gamma, bias is beta, running_mean and running_var track E[x] and Var[x] for inference as
    `running = (1 - momentum) * running + momentum * batch`, the variance with m/(m-1). momentum=None averages all
    batches equally instead, which is what Algorithm 2 asks for.

    affine=False leaves gamma = 1 and beta = 0, bias=False beta = 0, track_running_stats=False has no running statistics
    and always normalizes by the batch, as in torch. Running statistics stay float32 when the layer is made half.
    torch.func's jvp, grad and hessian of the layer itself leave them as they are: these take functions without side
    effects (give the buffers to functional_call where they shall be tracked).

    Raises ValueError for other shapes and, where it normalizes by the batch, for m = 1, whose variance is always zero.
    """

    weight: nn.Parameter  # None without affine
    bias: nn.Parameter

    running_mean: Tensor  # pyright: ignore[reportIncompatibleVariableOverride]
    running_var: Tensor  # pyright: ignore[reportIncompatibleVariableOverride]
    num_batches_tracked: Tensor  # pyright: ignore[reportIncompatibleVariableOverride]
    torch_class: type[_BatchNorm] | None = None  # what `bnrepro.convert` makes of it on the way back

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        if not bias:
            self.register_parameter("bias", None)
        self._buffers.update(_wide_buffers(self, {}))

    def forward(self, input: Tensor) -> Tensor:
        x = input
        self._check_input_dim(x)
        if not self.training and self.running_mean is not None:
            gamma, beta = self.gamma_beta()
            scale = gamma * torch.rsqrt(self.running_var + self.eps)
            centred = widen(x) - per_feature(self.running_mean, x)
            return (centred * per_feature(scale, x) + per_feature(beta, x)).to(x.dtype)
        m = x.numel() // self.num_features
        if m < 2:
            raise ValueError(
                f"Batch Normalization in training needs more than {m} value per feature: one has no variance"
            )
        return self._normalize(x, m)

    def gamma_beta(self, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """gamma and beta, (C,) each; ones and zeros without affine, like x where there are no running statistics."""
        gamma, beta = self.weight, self.bias
        if gamma is None or beta is None:
            like = self.running_mean
            if like is None:
                like = gamma if gamma is not None or x is None else widen(x).new_empty(self.num_features)
            gamma = torch.ones_like(like) if gamma is None else gamma
            beta = torch.zeros_like(like) if beta is None else beta
        return gamma, beta

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2 or input.shape[1] != self.num_features:
            raise ValueError(f"expected (N, {self.num_features}, ...), got {tuple(input.shape)}")

    def _normalize(self, x: Tensor, m: int) -> Tensor:
        y, mu, var = transform(x, *self.gamma_beta(x), self.eps)
        self._track(mu, var * (m / (m - 1)))
        return y

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor) -> None:
        if self.running_mean is None or not self.training:
            return
        # In place, always: rebinding the buffers trains as well and is silently lost under functional_call.
        try:
            self.num_batches_tracked.add_(1)
        except RuntimeError as error:
            if "mutate a captured Tensor" not in str(error):
                raise
            return
        share = self.momentum
        if share is None:
            share = self.num_batches_tracked.to(self.running_mean.dtype).reciprocal()
        self.running_mean.mul_(1 - share).add_(mean * share)
        self.running_var.mul_(1 - share).add_(var * share)

    @torch.no_grad()
    def fold(self) -> tuple[Tensor, Tensor]:
        """Inference as one affine map, y = scale * x + shift, both (C,) float64 (Algorithm 2, line 11).

        In float64, since the map cannot subtract the mean first: at a mean of 1e6 and a variance of 1e-4 float32 has no
        digits left. Raises ValueError without running statistics.
        """
        if self.running_mean is None:
            raise ValueError("without running statistics there is no fixed map to fold into")
        gamma, beta = (v.double() for v in self.gamma_beta())
        scale = gamma * torch.rsqrt(self.running_var.double() + self.eps)
        return scale, beta - scale * self.running_mean.double()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        self._buffers.update(_wide_buffers(self, before))
        return self


def _wide_buffers(layer: nn.Module, before: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    """The buffers, in float32 where they are half: those from `before`, which have all their digits, where there are.

    Half-precision statistics overflow at a variance of 65,504, and then every output in evaluation is 0.
    """
    found = dict(layer._buffers)
    for name, buffer in found.items():
        if buffer is not None and buffer.dtype in (torch.float16, torch.bfloat16):
            old = before.get(name)
            found[name] = (buffer if old is None or buffer.is_meta else old).to(buffer.device, torch.float32)
    return found


def normalization_layers(model: nn.Module) -> list[_BatchNorm]:
    """The Batch Normalization layers of a model, ours and torch's, that keep running statistics."""
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]


@torch.no_grad()
def population_statistics(model: nn.Module, batches: Iterable[Any]) -> None:
    """Algorithm 2: set every layer's running_mean and running_var to their exact averages over `batches`.

    Batches are the training mini-batches: tensors, or (x, y) as a DataLoader gives them, of which x is taken; on the
    model's device. E[x] = E_B[mu_B] and Var[x] = E_B[m/(m-1) var_B]; a batch counts by its size, so that a smaller last
    one weighs less. The rest of the model runs in evaluation mode (no dropout), each layer on inputs normalized as in
    training: by their own mini-batch, or, where a layer normalizes by running statistics (Batch Renormalization), by
    those the net had before. A layer that no batch reaches there, as of a head that only training uses, keeps its
    statistics. Modes are restored; no gradient is taken.

    Raises ValueError without batches, TypeError for batches without a tensor in them.
    """
    layers = normalization_layers(model)
    momenta = [layer.momentum for layer in layers]
    modes = {module: module.training for module in model.modules()}
    before = {layer: (layer.running_mean.clone(), layer.running_var.clone()) for layer in layers}  # pyright: ignore
    sums = {layer: [0.0, torch.zeros(()), torch.zeros(()), 0] for layer in layers}

    def add(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        m, total = inputs[0].numel() // layer.num_features, sums[layer]
        mean, var = layer.running_mean.double(), layer.running_var.double()
        sums[layer] = [total[0] + m, total[1] + m * mean, total[2] + m * var, total[3] + 1]
        restore(layer)

    def restore(layer: Any, finite: bool = True) -> None:
        for buffer, old in zip((layer.running_mean, layer.running_var), before[layer], strict=True):
            buffer.copy_(old.nan_to_num(0.0, 0.0, 0.0) if finite else old)

    model.eval()
    hooks, reached = [], {}
    for layer in layers:
        restore(layer)  # finite: what has overflowed would stay in a batch's statistics, as 0 * inf
        layer.train().momentum = 1.0  # the running statistics become this batch's; `add` puts them back
        hooks.append(layer.register_forward_hook(add))
    try:
        for batch in batches:
            model(_inputs_of(batch))
        reached = {layer: total for layer, total in sums.items() if total[3]}
        if layers and not reached:
            raise ValueError("population statistics need at least one training mini-batch")
        for layer, (m, mean, var, count) in reached.items():
            layer.running_mean.copy_(mean / m)  # pyright: ignore
            layer.running_var.copy_(var / m)  # pyright: ignore
            layer.num_batches_tracked.fill_(count)  # pyright: ignore
    finally:
        for layer in layers:
            if layer not in reached:
                restore(layer, finite=False)
        for hook in hooks:
            hook.remove()
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, mode in modes.items():
            module.training = mode


def _inputs_of(batch: Any) -> Tensor:
    x = batch[0] if isinstance(batch, (tuple, list)) and len(batch) else batch
    if not isinstance(x, Tensor):
        raise TypeError(f"a batch is a tensor or (x, y), got {type(batch).__name__} of {type(x).__name__}")
    return x
