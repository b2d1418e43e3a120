"""Ten kinds of shapes drawn by the program: a data set that needs no file and no download."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bnrepro.config import DataConfig
from bnrepro.data.dataset import DataError
from bnrepro.rng import generator

KINDS = ("disc", "ring", "triangle", "square", "frame", "cross", "bar", "star", "half", "crescent")
PER_CLASS = {"train": 200, "val": 50}
SIZE = 64
NOISE = 25.0  # standard deviation, in levels of 0..255


def shapes(cfg: DataConfig) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """Images (N, size, size, 3) uint8 and labels (N,) int64 of training, then of validation, and the classes.

    200 + 50 images a class, the same in every run; size is data.size, or 64. Raises DataError.
    """
    if cfg.num_classes > len(KINDS):
        raise DataError(f"data.num_classes={cfg.num_classes}: data=shapes has only {len(KINDS)}")
    kinds = KINDS[: cfg.num_classes or None]
    parts = []
    for part, count in PER_CLASS.items():
        parts.append(torch.cat([_drawn(part, kind, count, cfg.size or SIZE) for kind in kinds]))
        parts.append(torch.arange(len(kinds)).repeat_interleave(count))
    return parts[0], parts[1], parts[2], parts[3], len(kinds)


def _drawn(part: str, kind: str, count: int, size: int) -> Tensor:
    """(count, size, size, 3) uint8: random place, size, angle and colours, on a shaded, noisy ground."""
    g = generator("shapes", part, kind, size)

    def draw(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=g)

    radius = 0.15 + 0.25 * draw(1, 1)  # of the image's side, as are the places
    x0, y0 = (radius + (1 - 2 * radius) * draw(1, 1) for _ in range(2))
    angle = 2 * math.pi * draw(1, 1)
    axis = (torch.arange(size) + 0.5) / size
    x, y = (axis[None, None, :] - x0) / radius, (axis[None, :, None] - y0) / radius
    inside = _inside(kind, x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin())

    ground, ink = 255 * draw(1, 1, 3), 255 * draw(1, 1, 3)
    shift = torch.where(ground.mean(3, keepdim=True) < 128, 60.0, -60.0)  # so that no shape is invisible
    ink = (ink / 2 + ground / 2 + shift).clamp(0, 255)
    slope = 60 * (draw(2, 1, 1, 3) - 0.5)
    shade = slope[:, 0] * axis[None, None, :, None] + slope[:, 1] * axis[None, :, None, None]
    noise = NOISE * torch.randn(count, size, size, 3, generator=g)
    return (torch.where(inside[..., None], ink, ground + shade) + noise).clamp(0, 255).to(torch.uint8)


def _inside(kind: str, u: Tensor, v: Tensor) -> Tensor:
    """Whether points (u, v), in units of the shape's radius around its centre, belong to it."""
    r2, far, near = u**2 + v**2, torch.maximum(u.abs(), v.abs()), torch.minimum(u.abs(), v.abs())
    match kind:
        case "disc":
            return r2 < 0.8
        case "ring":
            return (r2 < 1) & (r2 > 0.4)
        case "triangle":
            return (v > -0.5) & (v + math.sqrt(3) * u.abs() < 1)
        case "square":
            return far < 0.7
        case "frame":
            return (far < 0.7) & (far > 0.4)
        case "cross":
            return (far < 0.9) & (near < 0.25)
        case "bar":
            return (u.abs() < 0.95) & (v.abs() < 0.3)
        case "star":  # five points: between two of them the edge goes from radius 1 to 0.4
            turn = (torch.atan2(v, u) / (2 * math.pi) * 5) % 1
            return r2.sqrt() < 0.4 + 0.6 * (2 * turn - 1).abs() ** 1.5
        case "half":
            return (r2 < 1) & (v > 0)
        case _:
            return (r2 < 1) & ((u - 0.5) ** 2 + v**2 > 0.6)
