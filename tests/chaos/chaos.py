"""Kill commands at random moments, run them again, and compare what is left with an undisturbed run, byte for byte.

    python tests/chaos/chaos.py --kills 200       (make chaos; 17 minutes on 2 cores)

A round: a command of one of the scenarios is started and ended at a random moment by SIGKILL, or by a signal that
asks it to end, again and again, until it gets through. Every table (or file of results, or cache) must then have
the bytes that the command leaves when nobody disturbs it. Prints a line a round and a table at the end; exit
status 1 where a round differs. Commands run in forked copies of this process, which has the imports behind it:
so a kill costs a second, and not ten.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = (
    signal.SIGKILL,
    signal.SIGKILL,
    signal.SIGKILL,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR2,
)
SMALL = (
    *(
        "model.width=8",
        "data.batch_size=20",
        "data.examples=400",
        "seeds=2",
        "train.steps=600",
        "eval.every=50",
    ),
    *("train.checkpoint_seconds=0", "train.workers=1", "eval.early=false", "output=runs"),
)
PICTURES = ("data=imagefolder", "data.root=pictures", "data.cache=cache", "data.size=32", "data.batch_size=8")
INCEPTION = (
    *(
        "variant=bn_baseline",
        "model.multiplier=0.02",
        "seeds=1",
        "train.steps=6",
        "eval.every=2",
        "output=runs",
    ),
    *("train.checkpoint_seconds=0", "train.workers=1", "data.num_classes=2", "eval.early=false"),
)


class Scenario(NamedTuple):
    script: str  # of scripts/, run in a fork; "" for a command of its own
    arguments: tuple[str, ...]
    compared: str = "runs/*/*/*/table.csv"  # what must have the same bytes
    before: Callable[[Path], None] | None = None  # makes what the command needs
    jax: bool = False  # imported by the command: a fork of a process that has it may hang


def pictures(folder: Path) -> None:
    random.seed(0)
    for name in ("train/cat", "train/dog", "val/cat", "val/dog"):
        (folder / "pictures" / name).mkdir(parents=True)
        for i in range(12):
            file = io.BytesIO()
            Image.frombytes("RGB", (40, 40), random.randbytes(4800)).save(file, "JPEG")
            (folder / "pictures" / name / f"{i}.jpg").write_bytes(file.getvalue())


def finished(folder: Path) -> None:
    status = run(folder, Scenario("train.py", ("-m", *SMALL, "train.steps=60", "variant=baseline,bn")))
    assert status == 0, (folder / "log.txt").read_text()


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
SCENARIOS = {
    "eager": Scenario("train.py", ("variant=bn", "train.engine=eager", *SMALL)),
    "xla": Scenario("train.py", ("variant=bn", "train.engine=xla", *SMALL), jax=True),
    "sequential": Scenario(
        "train.py", ("-m", "train.engine=eager", *SMALL, "train.steps=200", "variant=baseline,bn,layernorm")
    ),
    "pack": Scenario("train.py", ("-m", "variant=bn", "train.engine=eager", *SMALL, "optim.lr=0.1,0.5,2")),
    "seeds": Scenario("train.py", ("variant=bn", "train.engine=eager", *SMALL, "seeds=5", "train.steps=300")),
    "inception": Scenario("train.py", ("data=shapes", "data.size=32", "data.batch_size=8", *INCEPTION)),
    "cache": Scenario("train.py", (*PICTURES, *INCEPTION), before=pictures),
    "collect": Scenario(
        "collect.py",
        ("scratch", "--all", "--outputs", "runs", "--results", "results"),
        "results/*",
        finished,
    ),
    "wandb": Scenario("train.py", ("variant=bn", "train.engine=eager", *SMALL, "record=wandb")),
    "torchrun": Scenario(
        "",
        (
            *TORCHRUN,
            str(ROOT / "scripts/train.py"),
            "variant=bn",
            *SMALL,
            "train.steps=60",
            "model.sync=true",
        ),
    ),
    "joblib": Scenario(
        "",
        (
            *(sys.executable, str(ROOT / "scripts/train.py"), "-m", "hydra/launcher=joblib"),
            *(*SMALL, "train.steps=60", "train.engine=eager", "optim.lr=0.1,0.5"),
        ),
    ),
}


def start(folder: Path, scenario: Scenario) -> int:
    """The process, in a group of its own, working in `folder`; what it says is added to log.txt there."""
    with open(folder / "log.txt", "ab") as log:
        if not scenario.script:
            return subprocess.Popen(
                scenario.arguments, cwd=folder, stdout=log, stderr=log, start_new_session=True
            ).pid
        if pid := os.fork():
            return pid
        status = 70
        try:
            os.setsid()
            os.chdir(folder)
            for number in {*SIGNALS} - {signal.SIGKILL}:
                signal.signal(number, signal.SIG_DFL)
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
            sys.argv = [scenario.script, *scenario.arguments]
            main = runpy.run_path(str(ROOT / "scripts" / scenario.script))["main"]
            if scenario.script == "train.py":
                from bnrepro.machine import answer_signals

                answer_signals()
            status = main()
        finally:
            sys.stdout.flush()
            os._exit(status)


def run(folder: Path, scenario: Scenario) -> int:
    """Undisturbed, to its end: the exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(start(folder, scenario), 0)[1])


def disturb(folder: Path, scenario: Scenario, after: float, number: signal.Signals) -> str:
    """Run and send the signal after so many seconds: what happened."""
    pid, until = start(folder, scenario), time.monotonic() + after
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return "through" if os.waitstatus_to_exitcode(status) == 0 else "failed"
        time.sleep(0.005)
    os.killpg(pid, number)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    while True:  # what it started ends with it
        try:
            os.killpg(pid, signal.SIGKILL)
            time.sleep(0.01)
        except ProcessLookupError:
            break
        except PermissionError:
            time.sleep(0.01)
    own = not scenario.script or code in (
        -number,
        128 + number,
        0,
    )  # torchrun and joblib have statuses of their own
    return number.name if own else f"{number.name} ended with {code}"


def contents(folder: Path, scenario: Scenario) -> dict[str, bytes]:
    files = sorted(path for path in folder.glob(scenario.compared) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def chaos(kills: int, seed: int, names: list[str], place: Path, say: Callable[[str], None]) -> list[str]:
    """So many kills over these scenarios in turn; a line for each round that went wrong."""
    rng, wrong, done = random.Random(seed), [], 0
    expected: dict[str, tuple[dict[str, bytes], float]] = {}
    rounds: Counter[str] = Counter()
    while done < kills:
        name = names[sum(rounds.values()) % len(names)]
        scenario, rounds[name] = SCENARIOS[name], rounds[name] + 1
        if name not in expected:
            (template := place / f"{name}-before").mkdir()
            if scenario.before:
                scenario.before(template)
            folder = shutil.copytree(template, place / f"{name}-undisturbed")
            begun = time.monotonic()
            status = run(folder, scenario)
            found = contents(folder, scenario)
            assert status == 0 and found, f"{name}: {(folder / 'log.txt').read_text()[-2000:]}"
            expected[name] = found, time.monotonic() - begun
        whole, seconds = expected[name]
        folder = shutil.copytree(place / f"{name}-before", place / f"{name}-{rounds[name]}")
        events: list[str] = []
        for attempt in range(40):
            # three attempts are shorter than the command; then it is given more and more time to get through
            most = seconds * (1.0 if attempt < 3 else 0.6 * attempt)
            events.append(disturb(folder, scenario, rng.uniform(0.02, most), rng.choice(SIGNALS)))
            done += events[-1] not in ("through", "failed")
            if events[-1] == "through" or done >= kills + 20:
                break
        if events[-1] != "through":
            events.append("through" if run(folder, scenario) == 0 else "failed")
        same = contents(folder, scenario) == whole
        odd = [event for event in events if event not in {"through", *(s.name for s in SIGNALS)}]
        said = f"{name}: {', '.join(events)}: {'the same bytes' if same else 'OTHER BYTES'}"
        say(f"{done:4d} of {kills}  {said}")
        if not same or odd:
            wrong.append(f"{said}\n{(folder / 'log.txt').read_text()[-2000:]}")
        else:
            shutil.rmtree(folder)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenario", nargs="*", help=f"only these: {', '.join(SCENARIOS)}")
    parser.add_argument("--kills", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (%(default)s)")
    args = parser.parse_args()
    if unknown := sorted(set(args.scenario) - set(SCENARIOS)):
        parser.error(f"no such scenario: {', '.join(unknown)}")
    torch.set_num_threads(1)
    prepare()
    with tempfile.TemporaryDirectory() as place:
        names = args.scenario or list(SCENARIOS)
        wrong = chaos(args.kills, args.seed, names, Path(place), lambda line: print(line, flush=True))
    print(f"\n{args.kills} kills: " + ("all exact" if not wrong else f"{len(wrong)} rounds went wrong"))
    print("\n\n".join(wrong), end="")
    return bool(wrong)


def prepare() -> None:
    """Import what the commands import, JAX aside: it has threads of its own."""
    os.environ["WANDB_MODE"] = "offline"
    for script in ("train.py", "collect.py"):
        runpy.run_path(str(ROOT / "scripts" / script))
    import torchvision  # noqa: F401

    assert "jax" not in sys.modules


if __name__ == "__main__":
    sys.exit(main())
