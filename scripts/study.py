"""Everything that results/ reports, retrained and collected; resumes where it stopped."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STUDY = {  # file in results/: the experiments that are collected into it
    "sensitivity_mnist": ["sensitivity_mnist"],
    "fig1_mnist": ["fig1_mnist"],
    "tolerance_maps": ["tolerance_maps"],
    "dropout_bn": ["dropout_bn"],
    "batch_noise": ["batch_noise"],
    "placement": ["placement", "placement_baseline"],
    "inference_stats": ["inference_stats"],
    "small_batches": ["small_batches"],
    "why_it_works": ["why_it_works"],
    "design_grid": ["design_grid"],
    "rates_imagenet": ["rates_imagenet"],
    "fig2_imagenet": ["fig2_imagenet"],
    "fig4_ensemble": ["fig4_ensemble"],
    "ablation_imagenet": ["ablation_imagenet"],
}


def minutes(experiment: str) -> int:
    """What the experiment's file says it costs on 2 cores."""
    text = (ROOT / "conf" / "experiment" / f"{experiment}.yaml").read_text()
    found = re.search(r"Cost: (?:about )?(a|half a|\d+) minutes?", text.replace("\n# ", " "))
    if found is None:
        raise ValueError(f"conf/experiment/{experiment}.yaml does not state its cost")
    return int(found[1]) if found[1].isdigit() else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="*", help=f"only these (default: all): {', '.join(STUDY)}")
    parser.add_argument("--list", action="store_true", help="print what would be trained, and its cost")
    args = parser.parse_args()
    if unknown := sorted(set(args.name) - set(STUDY)):
        parser.error(f"no experiment of the study: {', '.join(unknown)}")
    chosen = {name: STUDY[name] for name in args.name or STUDY}
    costs = {name: sum(map(minutes, experiments)) for name, experiments in chosen.items()}
    for name, cost in costs.items():
        print(f"{name:20s} about {cost:3d} min")
    print(
        f"{'all':20s} about {sum(costs.values()):3d} min on 2 cores, less what is finished already",
        flush=True,
    )
    if args.list:
        return 0
    failed = []
    for name, experiments in chosen.items():
        for experiment in experiments:
            print(f"== {experiment}", flush=True)
            train = [sys.executable, "scripts/train.py", "-m", f"experiment={experiment}"]
            if status := subprocess.run(train, cwd=ROOT).returncode:
                failed.append(experiment)
                if status in (130, 2):  # stopped by the user, or refused: the next would be too
                    return status
        collect = [sys.executable, "scripts/collect.py", *experiments, "--into", name]
        if name == "fig4_ensemble":  # its table is of images, by nets that are read again
            collect = [sys.executable, "scripts/ensemble.py", name]
        if subprocess.run(collect, cwd=ROOT).returncode:
            failed.append(name)
    if not args.name:
        subprocess.run([sys.executable, "scripts/exact.py"], cwd=ROOT, check=True)
    if failed:
        print(f"study: not finished: {', '.join(dict.fromkeys(failed))}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
