"""Image files -> pixels."""

from __future__ import annotations

import functools
import io
import logging

import numpy as np

from bnrepro.data.dataset import DataError
from bnrepro.data.source import Source

warn_once = functools.cache(logging.getLogger(__name__).warning)  # a run asks for its data several times


def decode(source: Source, size: int) -> np.ndarray:
    """RGB (H, W, 3) uint8; with `size` the central square, brought to size x size. Else as large as it is.

    Raises DataError, naming the file, if it cannot be read or decoded.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(source.read())) as image:
            if image.mode.startswith(("I", "F")):  # PIL would clip them to white
                raise ValueError("more than 8 bits a channel")
            if size:  # a JPEG's decoder halves it for less than resizing it would cost
                image.draft("RGB", (2 * size, 2 * size))
            rgb = image.convert("RGB")
        return np.asarray(ImageOps.fit(rgb, (size, size), Image.Resampling.BICUBIC) if size else rgb)
    except MemoryError:
        raise
    except Exception as error:  # each format's decoder has its own kinds of errors
        reason = str(error).partition(" <")[0] or type(error).__name__
        raise DataError(
            f"{source} cannot be decoded ({reason}); replace it, or leave it out with data.corrupt=skip"
        ) from error
