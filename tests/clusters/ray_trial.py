"""Sweeps on a Ray cluster of two nodes on this machine: a worker killed, a node lost, the sweep stopped.

What is left must have the bytes of runs that never saw a cluster. `make test-ray`; ARGS="--repeat 10" for more.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from trials import SWEEP, Disagreement, agree, ended, finished, same, tables, train, until, words

MEMORY = {"object_store_memory": 80 << 20}  # bytes, of a node: tasks send no data


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=1, help="how often all of it (1)")
    args = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    from ray.cluster_utils import Cluster

    at = Path(tempfile.mkdtemp(prefix="bnrepro-ray-", dir="/var/tmp"))
    try:
        finished(train([*SWEEP, f"output={at / 'undisturbed'}"]))
        expected = tables(at / "undisturbed")
        for i in range(args.repeat):
            for trial in (stopped, worker_killed, node_lost):
                begun, outputs = time.monotonic(), at / f"{trial.__name__}-{i}"
                head = {"num_cpus": 1, "include_dashboard": False, **MEMORY}
                cluster = Cluster(initialize_head=True, head_node_args=head)
                try:
                    node = cluster.add_node(num_cpus=1, **MEMORY)
                    ray = ["hydra/launcher=ray", f"hydra.launcher.address={cluster.address}"]
                    trial(cluster, node, [*ray, *SWEEP, f"output={outputs}"], outputs)
                    same(outputs, expected)
                finally:
                    cluster.shutdown()
                print(f"{i + 1}/{args.repeat} {words(trial)}: {time.monotonic() - begun:.0f} s", flush=True)
    except Disagreement as error:
        print(f"failed: {error}; everything is kept in {at}", file=sys.stderr)
        return 1
    shutil.rmtree(at)
    return 0


def worker_killed(cluster: Any, node: Any, command: list[str], outputs: Path) -> None:
    """A process that trains is killed: its task starts again and goes on, and the sweep does not notice."""
    sweep = train(command)
    os.kill(until(lambda: at_work(outputs), "a task at work")[0], signal.SIGKILL)
    out, status = ended(sweep)
    agree(status == 0 and "8 tasks sent to Ray: 2 nodes" in out, f"exit status {status}:\n{out}")


def node_lost(cluster: Any, node: Any, command: list[str], outputs: Path) -> None:
    """One of two nodes disappears while tasks run on it: the other one takes them over."""
    sweep = train(command)
    until(lambda: (len(at_work(outputs)) == 2 and ["both"]) or [], "a task on each node")
    cluster.remove_node(node, allow_graceful=False)
    out, status = ended(sweep)
    agree(status == 0, f"exit status {status}:\n{out}")


def stopped(cluster: Any, node: Any, command: list[str], outputs: Path) -> None:
    """Ctrl-C ends the tasks with their checkpoints saved; the same command finishes."""
    sweep = train(command)
    until(lambda: at_work(outputs), "a task at work")
    sweep.send_signal(signal.SIGINT)
    out, status = ended(sweep)
    agree(status == 130, f"exit status {status}:\n{out}")
    states = [path.read_text() for path in outputs.glob("*/*/*/run.json")]
    agree(not any('"running"' in state for state in states), f"a run says that it is running:\n{out}")
    agree(any('"interrupted"' in state for state in states), f"no run says that it was interrupted:\n{out}")
    finished(train(command))


def at_work(outputs: Path) -> list[int]:
    """Processes that have a run's table open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            files = [os.path.realpath(file) for file in (process / "fd").iterdir()]
        except OSError:
            continue
        if any(file.startswith(str(outputs)) and file.endswith("table.csv") for file in files):
            found.append(int(process.name))
    return found


if __name__ == "__main__":
    sys.exit(main())
