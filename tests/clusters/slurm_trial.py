"""Sweeps on a real Slurm of two nodes on this machine: jobs killed, cancelled, out of time, and over two nodes.

What is left must have the bytes of runs that never saw a cluster. `make test-slurm`; ARGS="--repeat 20" for more.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
from slurm_cluster import cluster, install
from trials import SWEEP, TRAIN, Disagreement, agree, ended, finished, same, tables, train, until, words

SLURM = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2"]
LONG = ["variant=bn", "train.steps=30000", "eval.probe=false", "train.engine=eager", "eval.every=2000"]
PAIR = ["variant=bn", "train.steps=3000", "train.checkpoint_seconds=0.1"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=1, help="how often all of it (1)")
    parser.add_argument("--only", help="one of the trials: a part of its name")
    args = parser.parse_args()
    install()
    at = Path(tempfile.mkdtemp(prefix="bnrepro-slurm-", dir="/var/tmp"))
    os.environ |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    try:
        expected = undisturbed(at / "undisturbed")
        begun = time.monotonic()
        with cluster(at / "cluster"):
            print(f"a Slurm of two nodes is up ({time.monotonic() - begun:.0f} s)", flush=True)
            for i in range(args.repeat):
                for trial in (killed_and_cancelled, two_nodes, out_of_time, preempted):
                    if args.only and args.only not in trial.__name__:
                        continue
                    begun, outputs = time.monotonic(), at / f"{trial.__name__}-{i}"
                    trial(outputs, expected)
                    print(
                        f"{i + 1}/{args.repeat} {words(trial)}: {time.monotonic() - begun:.0f} s", flush=True
                    )
    except Disagreement as error:
        print(f"failed: {error}; everything is kept in {at}", file=sys.stderr)
        return 1
    shutil.rmtree(at)
    return 0


def undisturbed(outputs: Path) -> dict[str, bytes]:
    """The tables of all the runs, trained without Slurm."""
    for settings in (SWEEP, LONG):
        finished(train([*settings, f"output={outputs}"]))
    torchrun = [str(Path(sys.executable).parent / "torchrun"), "--nproc-per-node=2", *TRAIN[1:-1]]
    pair = [*PAIR, f"output={outputs}"]
    subprocess.run([*torchrun, *pair], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return tables(outputs)


def killed_and_cancelled(outputs: Path, expected: dict[str, bytes]) -> None:
    """A sweep of 8 packs, of which one job is killed and one cancelled; the same command finishes it."""
    command = [*SLURM, *SWEEP, f"output={outputs}"]
    sweep = train(command)
    running = until(lambda: [each for each in queue() if each.state == "RUNNING"], "a running job")
    killed = running[0].job
    until(lambda: pids(killed), "the job's process")
    for pid in pids(killed):
        os.kill(pid, 9)
    others = until(
        lambda: [each for each in queue() if each.job != killed and at_work(each.job)], "another job"
    )
    subprocess.run(["scancel", others[0].shown], check=True)
    out, status = ended(sweep)
    agree(status == 1, f"exit status {status} of a sweep that lost two jobs:\n{out}")
    agree("8 jobs sent to Slurm" in out, f"one job a pack:\n{out}")
    reasons = [line for line in out.splitlines() if "says Slurm" in line]
    agree(len(reasons) == 2, f"two reasons:\n{out}")
    agree(any("interrupted, says Slurm: CANCELLED" in line for line in reasons), f"cancelled:\n{out}")
    agree(any("says Slurm: FAILED" in line for line in reasons), f"killed:\n{out}")
    finished(train(command))
    same(outputs, expected)


def out_of_time(outputs: Path, expected: dict[str, bytes]) -> None:
    """A job that nears its limit saves, goes back into the queue and finishes."""
    limits = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=20"]
    job = train([*SLURM, *limits, *LONG, f"output={outputs}"])
    out, status = ended(job)
    agree(status == 0, f"exit status {status}:\n{out}")
    status_files = list(outputs.glob("*/*/*/run.json"))
    (origin,) = (json.loads(path.read_text())["provenance"] for path in status_files)
    agree(bool(origin.get("earlier_sessions")), "it finished in one session: no time-out was tried")
    agree("hydra/launcher=slurm" in origin["command"], f"not the user's command: {origin['command']}")
    same(outputs, expected)


def two_nodes(outputs: Path, expected: dict[str, bytes]) -> None:
    """One run on two nodes, of which one loses its process: the other does not wait for it. Then to the end."""
    command = [*SLURM, "hydra.launcher.nodes=2", *PAIR, f"output={outputs}"]
    pair = train(command)
    (each,) = until(lambda: [each for each in queue() if at_work(each.job)], "a job at work")
    for pid in pids(each.job, task="1"):
        os.kill(pid, 9)
    out, status = ended(pair)
    agree(status == 1 and "1/1 scratch/bn" in out, f"exit status {status} of a job that lost a task:\n{out}")
    finished(train(command))
    same(outputs, expected)


def preempted(outputs: Path, expected: dict[str, bytes]) -> None:
    """A job that makes room for a more urgent one goes back into the queue, told in time or not, and finishes."""
    for partition in ("cpu", "patient"):
        place = outputs / partition
        sweep = train([*SLURM, f"hydra.launcher.partition={partition}", *LONG, f"output={place}"])
        until(lambda: [each for each in queue() if at_work(each.job)], "a job at work")
        urgent = ["--partition=urgent", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 3"]
        subprocess.run(["sbatch", *urgent], check=True, stdout=subprocess.DEVNULL)
        out, status = ended(sweep)
        agree(status == 0, f"exit status {status} of a preempted job ({partition}):\n{out}")
        (origin,) = (json.loads(path.read_text())["provenance"] for path in place.glob("*/*/*/run.json"))
        agree(bool(origin.get("earlier_sessions")), f"{partition}: it was not preempted")
        same(place, expected)


class Queued(NamedTuple):
    job: str  # as its processes know it
    shown: str  # as scancel takes it: ARRAY_TASK
    state: str


def queue() -> list[Queued]:
    command = ["squeue", "-rh", "-o", "%A %i %T"]
    lines = subprocess.run(command, text=True, capture_output=True, check=True).stdout
    return [Queued(*line.split()) for line in lines.splitlines()]


def pids(job: str, task: str = "0") -> list[int]:
    """Of the processes that a job's task started."""
    found = subprocess.run(["pgrep", "-f", "submitit.core._submit"], text=True, capture_output=True).stdout
    wanted = {"SLURM_JOB_ID": job, "SLURM_PROCID": task}
    return [
        pid for pid in map(int, found.split()) if all(environment(pid, k) == v for k, v in wanted.items())
    ]


def environment(pid: int, name: str) -> str:
    try:
        pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    return next((p.split(b"=", 1)[1].decode() for p in pairs if p.startswith(f"{name}=".encode())), "")


def at_work(job: str) -> bool:
    """Whether one of the job's processes has a run's table open."""
    files = [file for pid in pids(job) for file in Path(f"/proc/{pid}/fd").glob("*")]
    return any(os.path.realpath(file).endswith("table.csv") for file in files)


if __name__ == "__main__":
    sys.exit(main())
