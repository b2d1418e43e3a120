"""W&B dashboards of the experiments: curves with bands, percentiles and histograms by layer, the sweep.

python scripts/wandb_dashboard.py                                    what there is
python scripts/wandb_dashboard.py ENTITY/PROJECT fig1_mnist          print its specification, without a server
python scripts/wandb_dashboard.py ENTITY/PROJECT fig1_mnist --save   make it, after wandb login; prints its address
"""

import argparse
import json
import sys


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("project", nargs="?", help="ENTITY/PROJECT")
    parser.add_argument("experiments", nargs="*", help="default: all")
    parser.add_argument("--save", action="store_true")
    args = parser.parse_args()
    try:
        from bnrepro.runs import dashboard
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is not installed: pip install 'bnrepro[dashboards]'", file=sys.stderr)
        return 2
    if args.project is None:
        print(*dashboard.VIEWS, sep="\n")
        return 0
    entity, _, project = args.project.partition("/")
    unknown = [name for name in args.experiments if name not in dashboard.VIEWS]
    if unknown or not (entity and project):
        said = f"{unknown[0]}: no dashboard" if unknown else f"{args.project}: write ENTITY/PROJECT"
        print(f"error: {said}; there are {', '.join(dashboard.VIEWS)}", file=sys.stderr)
        return 2
    for name in args.experiments or dashboard.VIEWS:
        made = dashboard.workspace(entity, project, name)
        if not args.save:
            print(json.dumps(dashboard.spec(made), indent=1, sort_keys=True))
            continue
        try:
            made.save()
        except Exception as error:  # whatever the client raises without a key, a network, or rights
            print(
                f"error: {name} was not saved ({type(error).__name__}: {error})".split("\n")[0],
                file=sys.stderr,
            )
            return 1
        print(f"{name}: {made.url}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
