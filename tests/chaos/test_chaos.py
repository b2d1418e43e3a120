"""A sample of `make chaos`: in a process of its own, because it forks and other tests import JAX."""

import subprocess
import sys
from pathlib import Path


def test_killed_commands_leave_the_bytes_of_undisturbed_ones():
    script = Path(__file__).with_name("chaos.py")
    command = [sys.executable, str(script), "--kills", "6", "eager", "sequential", "collect"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "6 kills: all exact" in done.stdout and done.stdout.count("the same bytes") >= 2
