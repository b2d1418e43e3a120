"""Tidy frame -> tables of effects with intervals, a module per experiment of the MNIST study."""
