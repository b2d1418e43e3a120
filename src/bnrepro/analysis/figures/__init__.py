"""Tidy frame -> matplotlib Figure. Draws what it is given: reads no file, writes none, trains nothing."""

from bnrepro.analysis.figures.figure1 import figure1, figure1_regimes
from bnrepro.analysis.figures.maps import sensitivity
from bnrepro.analysis.figures.style import setting

__all__ = ["figure1", "figure1_regimes", "sensitivity", "setting"]
