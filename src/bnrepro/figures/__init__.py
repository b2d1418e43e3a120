"""Tidy frame -> matplotlib Figure. Draws what it is given: reads no file, writes none, trains nothing."""

from bnrepro.figures.figure1 import figure1, figure1_regimes
from bnrepro.figures.maps import sensitivity
from bnrepro.figures.style import setting

__all__ = ["figure1", "figure1_regimes", "sensitivity", "setting"]
