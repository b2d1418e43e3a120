"""Variations of training images, on the device: shift, mirror, photometric distortion."""

from __future__ import annotations

import torch
from torch import Tensor

from bnrepro.config import DataConfig
from bnrepro.rng import uniform

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma, as PIL and torchvision convert
PURPOSE = 2000  # random numbers of other purposes have smaller ones: rng.uniform


def augmented(rows: Tensor, key: Tensor, cfg: DataConfig) -> Tensor:
    """rows (m, H, W, 3) uint8 -> (m, H, W, 3) float in [0, 1], each image varied on its own.

    Shift: by -crop..crop pixels each way, edges reflected. Mirror: half of the images. Distortion:
    brightness, contrast (around the image's mean grey) and saturation (around each pixel's grey), in this
    order, each times U(1 - distort, 1 + distort), then clamped: torchvision's ColorJitter in a fixed order.

    A function of key (2,) int64, seed and step, so that a resumed run sees the same images.
    """
    m, h, w, _ = rows.shape

    def draw(what: int) -> Tensor:
        return uniform(key, PURPOSE + what, (m, 1))

    y, x = torch.arange(h, device=rows.device)[None], torch.arange(w, device=rows.device)[None]
    if cfg.crop:
        y, x = (_reflected(t + _integers(draw(i), cfg.crop), n) for i, (t, n) in enumerate(((y, h), (x, w))))
    if cfg.flip:
        x = torch.where(draw(2) < 0.5, x, w - 1 - x)
    if cfg.crop or cfg.flip:
        image = torch.arange(m, device=rows.device)[:, None, None]
        rows = rows[image, y.expand(m, h)[:, :, None], x.expand(m, w)[:, None, :]]
    out = rows.float() / 255
    if cfg.distort:
        brightness, contrast, saturation = (
            (1 + cfg.distort * (2 * draw(3 + i) - 1))[:, :, None, None] for i in range(3)
        )
        out = (out * brightness).clamp(0, 1)
        mean = _grey(out).mean((1, 2, 3), keepdim=True)
        out = (mean + contrast * (out - mean)).clamp(0, 1)
        grey = _grey(out)
        out = (grey + saturation * (out - grey)).clamp(0, 1)
    return out


def _grey(x: Tensor) -> Tensor:
    """x (m, H, W, 3) -> (m, H, W, 1)."""
    red, green, blue = (x[..., i : i + 1] for i in range(3))
    return GREY[0] * red + GREY[1] * green + GREY[2] * blue


def _integers(u: Tensor, limit: int) -> Tensor:
    """U(0, 1) -> a whole number from -limit to limit, all equally likely."""
    return (u * (2 * limit + 1)).long() - limit


def _reflected(position: Tensor, size: int) -> Tensor:
    """Positions outside 0..size-1 mirrored at the edge pixel, which is not repeated."""
    position = position.abs()
    return torch.where(position < size, position, 2 * (size - 1) - position)
