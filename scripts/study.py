"""All that the study rests on, retrained and collected; resumes where it stopped. Pilots are not retrained."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bnrepro.analysis.claims import RULES
from bnrepro.config.compose import jobs
from bnrepro.machine import Stopped, answer_signals
from bnrepro.runs.ending import ended_by
from bnrepro.runs.folder import RunFolder

ROOT = Path(__file__).resolve().parent.parent


class Part(NamedTuple):
    experiments: list[str]  # whose runs are collected into one file of results/
    minutes: int  # of 2 cores
    how: str = "--replace"  # what the file has of other runs: --add keeps it


STUDY = {  # in the order in which one experiment takes its rates from another
    "rates_mnist": Part(["rates_mnist"], 8),
    "rate_multiples": Part(["rate_multiples", "rate_multiples_relu", "rate_multiples_tied"], 22),
    "fig1_rates": Part(["fig1_rates"], 12),
    "fig1_mnist": Part(["fig1_mnist"], 40),
    "sensitivity_mnist": Part(["sensitivity_mnist"], 25),
    "tolerance_maps": Part(["tolerance_maps"], 45),
    "dropout_bn": Part(["dropout_bn", "dropout_bn_5k", "dropout_bn_1k"], 85),
    "batch_noise": Part(["batch_noise", "batch_noise_ghost"], 20),
    "placement": Part(["placement", "placement_baseline"], 5),
    "inference_stats": Part(["inference_stats"], 6),
    "small_batches": Part(["small_batches"], 50),
    "why_it_works": Part(["why_it_works", "why_it_works_relu"], 60),
    "design_grid": Part(["design_grid", "design_grid_constant"], 100),
    "rates_imagenet": Part(["rates_imagenet"], 5),
    "rates_fig2": Part(["rates_fig2"], 50, "--add"),  # the pilots on other classes are not run again
    "fig2_imagenet": Part(["fig2_imagenet", "fig2_imagenet_fast"], 340),
    "c7_inception": Part(["c7_inception"], 60),
    "fig4_ensemble": Part(["fig4_ensemble"], 130),
    "ablation_imagenet": Part(["ablation_imagenet"], 220),
    "rates_limited": Part(["rates_limited"], 90),
    "fig2_limited": Part(["fig2_limited"], 220),
    "sigmoid_inits": Part(["sigmoid_inits"], 90),
}


def overview(chosen: dict[str, Part]) -> Table:
    """What is finished, what is left, and which claims it is for."""
    table = Table("results/", "seeds finished", "minutes left, about", "for")
    total = 0.0
    for name, part in track(chosen.items(), "looking for finished runs", transient=True):
        done = wanted = 0
        for experiment in part.experiments:
            for cfg in jobs([f"experiment={experiment}"]):
                done += len(set(cfg.seeds) & set(RunFolder.of(cfg).finished_seeds()))
                wanted += len(cfg.seeds)
        left = part.minutes * (1 - done / wanted)
        total += left
        claims = ", ".join(claim for claim, rule in RULES.items() if name in rule.experiments)
        table.add_row(name, f"{done:,} of {wanted:,}", f"{left:.0f}", claims)
    table.add_section()
    table.add_row("all", "", f"{total:.0f} on 2 cores", "")
    return table


def follow(command: list[str]) -> int:
    """Run it to its end: the exit status. A signal to this process is the command's, which ends tidily."""
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        return process.wait()
    except Stopped as stop:
        typed = stop.status == 130 and sys.stdin.isatty()  # Ctrl-C has reached the command as well
        if not typed:
            process.send_signal(stop.status - 128)
        process.wait()
        raise


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="*", help=f"only these (default: all): {', '.join(STUDY)}")
    parser.add_argument(
        "--list", action="store_true", help="print what is finished and what is left, and train nothing"
    )
    args = parser.parse_args()
    if unknown := sorted(set(args.name) - set(STUDY)):
        parser.error(f"no experiment of the study: {', '.join(unknown)}")
    chosen = {name: STUDY[name] for name in args.name or STUDY}
    os.chdir(ROOT)  # outputs/ and results/ are the checkout's
    Console(width=None if sys.stdout.isatty() else 120).print(overview(chosen))
    if args.list:
        return 0
    failed = []
    for name, (experiments, _, how) in chosen.items():
        for experiment in experiments:
            print(f"== {experiment}", flush=True)
            train = [sys.executable, "scripts/train.py", "-m", f"experiment={experiment}"]
            if status := follow(train):
                failed.append(experiment)
                if status < 0 or status > 128 or status == 2:
                    return status  # killed, stopped, or refused: so would be the next
        if lacking := [experiment for experiment in experiments if experiment in failed]:
            print(f"study: {name} is not collected: {', '.join(lacking)} is not finished", file=sys.stderr)
            continue
        there = (ROOT / "results" / f"{name}.json").exists()
        how = how if there else "--replace"
        collect = [sys.executable, "scripts/collect.py", *experiments, "--into", name, how]
        if name == "fig4_ensemble":  # its table is of images, by nets that are read again
            collect = [sys.executable, "scripts/ensemble.py", name]
        if follow(collect):
            failed.append(name)
    if not args.name and follow([sys.executable, "scripts/exact.py"]):
        failed.append("exact")
    if failed:
        print(f"study: not finished: {', '.join(dict.fromkeys(failed))}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    answer_signals()
    try:
        status = main()
    except BaseException as error:
        status = ended_by(error)
    sys.exit(status)
