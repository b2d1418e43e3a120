"""Networks. A model returns (logits, taps): the taps are what the probes look at."""

from bnrepro.models.mlp import MLP

__all__ = ["MLP"]
