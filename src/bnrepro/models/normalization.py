"""Normalization by name: the paper's, and the alternatives it is compared with."""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor, nn

from bnrepro.config import InceptionConfig, MLPConfig, ModelConfig
from bnrepro.norm import BatchNorm, moments, over_batch, per_feature, transform, widen

GROUPS = 10  # at most: of 10 units each at the default width


class BatchRenorm(BatchNorm):
    """Batch Renormalization (Ioffe 2017, arXiv:1702.03275, Algorithm 1).

        r = clip(sigma_B / sigma, 1/r_max, r_max)   d = clip((mu_B - mu) / sigma, -d_max, d_max)
        y = gamma * (x_hat * r + d) + beta          r, d held constant in the backward pass

    mu, sigma are the moving averages before this mini-batch enters them. Without limits y is normalized by
    them alone: no noise from the mini-batch in the forward pass, its gradients as in BN. The paper's
    schedule, which widens the limits during training, is left out: they are fixed.
    """

    def __init__(
        self, num_features: int, eps: float, momentum: float, r_max: float = 3.0, d_max: float = 5.0
    ) -> None:
        super().__init__(num_features, eps, momentum)
        self.r_max, self.d_max = r_max, d_max

    def _normalize(self, x: Tensor, m: int) -> Tensor:
        _, mu, var = moments(x.detach())
        inv_sigma = torch.rsqrt(self.running_var + self.eps)
        r = (torch.sqrt(var + self.eps) * inv_sigma).clamp(1 / self.r_max, self.r_max)
        d = ((mu - self.running_mean) * inv_sigma).clamp(-self.d_max, self.d_max)
        gamma, beta = self.gamma_beta()
        y, mu, var = transform(x, gamma * r, beta + gamma * d, self.eps)
        self._track(mu, var * (m / (m - 1)))
        return y


class SumOverProcesses(torch.autograd.Function):
    """The sum of x over all processes, in each of them; so is the gradient's."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor) -> Tensor:
        return SumOverProcesses.forward(ctx, grad_outputs[0])


class SyncBatchNorm(BatchNorm):
    """Batch Normalization over the mini-batches of all processes of a torch.distributed group.

    All must be of the same size. The mean and then the variance around it are averaged over the processes;
    autograd differentiates through both. Unlike nn.SyncBatchNorm it also runs on a CPU (gloo).
    """

    def _normalize(self, x: Tensor, m: int) -> Tensor:
        processes = torch.distributed.get_world_size()
        dims, wide = over_batch(x), widen(x)
        mu = SumOverProcesses.apply(wide.mean(dims)) / processes
        centred = wide - per_feature(mu, x)
        var = SumOverProcesses.apply(centred.square().mean(dims)) / processes
        m *= processes
        self._track(mu.detach(), var.detach() * (m / (m - 1)))
        gamma, beta = self.gamma_beta()
        y = centred * per_feature(gamma * torch.rsqrt(var + self.eps), x) + per_feature(beta, x)
        return y.to(x.dtype)


class GhostBatchNorm(BatchNorm):
    """Batch Normalization over groups of `size` examples each (Hoffer et al. 2017, arXiv:1705.08741).

    x (N, C) with N a multiple of `size`, or smaller: then it is Batch Normalization. The moving averages
    take the mean of the groups' statistics.
    """

    def __init__(self, num_features: int, eps: float, momentum: float, size: int = 16) -> None:
        super().__init__(num_features, eps, momentum)
        self.size = size

    def _normalize(self, x: Tensor, m: int) -> Tensor:
        groups = max(1, m // self.size)
        size = m // groups
        # a group's statistics are those of features of its own: (groups * size, C) -> (size, groups * C)
        apart = x.view(groups, size, -1).transpose(0, 1).reshape(size, -1)
        gamma, beta = (v.repeat(groups) for v in self.gamma_beta())
        y, mu, var = transform(apart, gamma, beta, self.eps)
        self._track(mu.view(groups, -1).mean(0), var.view(groups, -1).mean(0) * (size / (size - 1)))
        return y.view(size, groups, -1).transpose(0, 1).reshape(x.shape)


def normalization(cfg: ModelConfig, features: int, spatial: bool = False) -> nn.Module:
    """The layer that cfg.norm names, for (N, features), or with `spatial` for (N, features, H, W).

    Weight normalization sits on the weights: `MLP`.
    """
    eps, momentum = cfg.eps, cfg.bn_momentum
    match cfg.norm:
        case "bn" if spatial and isinstance(cfg, InceptionConfig) and cfg.native:
            return nn.BatchNorm2d(features, eps, momentum, cfg.affine)
        case "bn" if cfg.sync:
            return SyncBatchNorm(features, eps, momentum, cfg.affine)
        case "bn":
            layer = BatchNorm(features, eps, momentum, cfg.affine)
            layer.torch_class = nn.BatchNorm2d if spatial else nn.BatchNorm1d
            return layer
        case "torch":
            torchs = nn.BatchNorm2d if spatial else nn.BatchNorm1d
            return torchs(features, eps, momentum)
        case "renorm":
            assert isinstance(cfg, MLPConfig)
            return BatchRenorm(features, eps, momentum, cfg.r_max, cfg.d_max)
        case "ghost":
            assert isinstance(cfg, MLPConfig)
            return GhostBatchNorm(features, eps, momentum, cfg.ghost_size)
        case "group":
            groups = next(g for g in range(GROUPS, 0, -1) if features % g == 0)
            return nn.GroupNorm(groups, features, eps)
        case "layer":
            return nn.LayerNorm(features, eps)
        case _:
            return nn.Identity()
