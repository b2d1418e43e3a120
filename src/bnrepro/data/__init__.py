"""Data sets as uint8 tensors, and the order in which a seed visits them."""

from bnrepro.data.dataset import DataError, Dataset
from bnrepro.data.load import load
from bnrepro.data.order import batch_indices

__all__ = ["DataError", "Dataset", "batch_indices", "load"]
