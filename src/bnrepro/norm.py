"""Batch Normalization from scratch (Ioffe & Szegedy 2015, arXiv:1502.03167). Imports only torch.

Over a mini-batch of m values per feature (m = N, or N*H*W for convolutions, paper section 3.2):

    Algorithm 1, training    mu_B = mean(x)    var_B = mean((x - mu_B)^2)        (biased, 1/m)
                             x_hat = (x - mu_B) / sqrt(var_B + eps)
                             y = gamma * x_hat + beta
    Algorithm 2, inference   E[x] = E_B[mu_B]  Var[x] = m/(m-1) * E_B[var_B]
                             y = gamma / sqrt(Var[x] + eps) * (x - E[x]) + beta  (one fixed affine map)
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


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

    Shapes: x (N, C) or (N, C, H, W) -> (x - mu like x), mu (C,), var (C,).

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

    Shapes: x, y (N, C) or (N, C, H, W); gamma, beta, mu_B, var_B (C,). mu_B and var_B carry no gradient:
    they feed the running statistics only.

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


class BatchNorm(nn.Module):
    """Batch Normalization of (N, C) activations or (N, C, H, W) feature maps, one code path for both.

    Arguments, parameters and buffers are named as in `torch.nn.BatchNorm1d` and `2d`, so state_dicts are
    exchangeable: weight is gamma, bias is beta, running_mean and running_var track E[x] and Var[x] for
    inference as `running = (1 - momentum) * running + momentum * batch`, the variance with m/(m-1).
    momentum=None averages all batches equally instead, which is what Algorithm 2 asks for.

    affine=False leaves gamma = 1 and beta = 0, as in torch.

    Raises ValueError for other shapes and, in training, for m = 1, whose variance is always zero.
    """

    weight: nn.Parameter  # None without affine
    bias: nn.Parameter

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum, self.affine = num_features, eps, momentum, affine
        self.register_parameter("weight", nn.Parameter(torch.ones(num_features)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(num_features)) if affine else None)
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}"

    def reset_running_stats(self) -> None:
        self.running_mean.zero_()
        self.running_var.fill_(1)
        self.num_batches_tracked.zero_()

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim not in (2, 4) or x.shape[1] != self.num_features:
            wanted = f"(N, {self.num_features}) or (N, {self.num_features}, H, W)"
            raise ValueError(f"expected {wanted}, got {tuple(x.shape)}")
        if not self.training:
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

    def gamma_beta(self) -> tuple[Tensor, Tensor]:
        """gamma and beta, (C,) each; ones and zeros without affine."""
        if not self.affine:
            return torch.ones_like(self.running_mean), torch.zeros_like(self.running_mean)
        return self.weight, self.bias

    def _normalize(self, x: Tensor, m: int) -> Tensor:
        y, mu, var = BatchNormTransform.apply(x, *self.gamma_beta(), self.eps)
        self._track(mu, var * (m / (m - 1)))
        return y

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor) -> None:
        # In place, always: rebinding the buffers trains as well and is silently lost under functional_call.
        self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:
            share = self.num_batches_tracked.to(self.running_mean.dtype).reciprocal()
        self.running_mean.mul_(1 - share).add_(mean * share)
        self.running_var.mul_(1 - share).add_(var * share)

    @torch.no_grad()
    def fold(self) -> tuple[Tensor, Tensor]:
        """Inference as one affine map, y = scale * x + shift, both (C,) (Algorithm 2, line 11)."""
        gamma, beta = self.gamma_beta()
        scale = gamma * torch.rsqrt(self.running_var + self.eps)
        return scale, beta - scale * self.running_mean


AnyBatchNorm = BatchNorm | nn.BatchNorm1d | nn.BatchNorm2d


def normalization_layers(model: nn.Module) -> list[AnyBatchNorm]:
    """The Batch Normalization layers of a model, ours and torch's."""
    return [m for m in model.modules() if isinstance(m, AnyBatchNorm)]


@torch.no_grad()
def population_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Algorithm 2: set every layer's running_mean and running_var to their exact averages over `batches`.

    Batches are training mini-batches, all of the size m used in training: E[x] = E_B[mu_B] and
    Var[x] = m/(m-1) E_B[var_B]. The rest of the model runs in evaluation mode (no dropout), each layer on
    inputs normalized by their own mini-batch, as in training. Modes are restored; no gradient is taken.

    Raises ValueError without batches.
    """
    layers = normalization_layers(model)
    momenta = [layer.momentum for layer in layers]
    modes = {module: module.training for module in model.modules()}
    model.eval()
    for layer in layers:
        layer.train().reset_running_stats()
        layer.momentum = None
    try:
        for batch in batches:
            model(batch)
        if any(layer.num_batches_tracked == 0 for layer in layers):
            raise ValueError("population statistics need at least one training mini-batch")
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
