"""Runs on disk: folders, states, the sweep, the W&B mirror, provenance."""
