"""What all tests share."""

from __future__ import annotations

import sys

import pytest
from hypothesis import settings

from bnrepro import machine

settings.register_profile("untimed", deadline=None)  # a machine may be busy: no test is about time
settings.load_profile("untimed")


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are forked although another test of this process has imported JAX, whose threads are idle now."""
    if sys.platform != "linux":
        pytest.skip("forks")
    monkeypatch.setattr(machine, "can_fork", lambda: True)


@pytest.fixture(autouse=True)
def no_signal_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that one test sends to its own process asks no later test to stop."""
    monkeypatch.setattr(machine, "_asked", [])
