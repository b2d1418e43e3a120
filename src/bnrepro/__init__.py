"""bnrepro: a reproduction study of Ioffe & Szegedy 2015, Batch Normalization (arXiv:1502.03167).

    BatchNorm                the layer from scratch, a drop-in for torch's
    convert(model)           swaps torch's layers for it in any network, and back
    population_statistics    Algorithm 2: exact inference statistics for any network
    load(folder, seed)       a trained network of a finished run

They need torch (the extra `train`); the analysis, `bnrepro.analysis`, does not.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_ROOMS = {
    "BatchNorm": "norm",
    "convert": "swap",
    "population_statistics": "norm",
    "load": "runs.trained",
}
__all__ = ["BatchNorm", "__version__", "convert", "load", "population_statistics"]  # pyright: ignore

try:
    __version__ = version("bnrepro")
except PackageNotFoundError:  # the source without an installation
    __version__ = "unknown"


def __getattr__(name: str) -> Any:
    """Imported when first asked for: the analysis half works without torch."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'bnrepro' has no attribute {name!r}")
    try:
        return getattr(import_module(f"bnrepro.{_ROOMS[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError(f"bnrepro.{name} needs torch: pip install 'bnrepro[train]'") from error


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS])
