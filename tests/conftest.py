"""What all tests share."""

from __future__ import annotations

import sys

import pytest

from bnrepro import machine


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are forked although another test of this process has imported JAX, whose threads are idle now."""
    if sys.platform != "linux":
        pytest.skip("forks")
    monkeypatch.setattr(machine, "can_fork", lambda: True)
