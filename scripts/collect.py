"""Finished runs in outputs/<experiment> -> results/<experiment>.parquet and .json (provenance)."""

import argparse
import sys
import tempfile
from pathlib import Path

from bnrepro.analysis import collect
from bnrepro.analysis import frame as tidy
from bnrepro.config.checks import ConfigError
from bnrepro.runs.folder import RunFolder, nearest_folder


def main() -> int:
    args = arguments()
    if not args.wandb:
        return collected(args)
    from bnrepro.runs.wandb import fetch  # needs its client

    with tempfile.TemporaryDirectory() as folder:
        args.outputs = Path(folder)
        try:
            lacking = [line for name in args.experiment for line in fetch(args.wandb, name, args.outputs)]
        except ConfigError as error:
            print(f"collect: {error}", file=sys.stderr)
            return 2
        for line in lacking:
            print(f"collect: {line}", file=sys.stderr)
        return collected(args)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", nargs="+", help="folders in outputs/, such as fig1_mnist")
    parser.add_argument(
        "--all", action="store_true", help="every run there, also those outside the experiment's own sweep"
    )
    former = parser.add_mutually_exclusive_group()
    former.add_argument(
        "--add", action="store_true", help="keep the runs and seeds of results/NAME.* that are not found now"
    )
    former.add_argument(
        "--replace", action="store_true", help="leave out what results/NAME.* has and is not found now"
    )
    parser.add_argument("--into", metavar="NAME", help="one file results/NAME.* for all of them together")
    parser.add_argument(
        "--outputs", type=Path, default=Path("outputs"), help="where the runs are (%(default)s)"
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="where to write (%(default)s)")
    parser.add_argument(
        "--wandb", metavar="ENTITY/PROJECT", help="read the runs from W&B's artifacts instead of --outputs"
    )
    args = parser.parse_args()
    for name in [*args.experiment, *([args.into] if args.into else [])]:
        if name != Path(name).name:
            parser.error(f"{name}: the name of a folder in --outputs ({args.outputs}), without a path")
    return args


def collected(args: argparse.Namespace) -> int:
    files = {args.into: args.experiment} if args.into else {name: [name] for name in args.experiment}
    for name, experiments in files.items():
        try:
            folders = [args.outputs / name for name in experiments]
            if not args.all:
                from bnrepro.config.compose import places

                folders = [place for name in experiments for place in places(name, args.outputs)]
            found = collect.collect(*folders)
            if args.add:
                now = {collect.identity(run) for run in found.provenance}
                found = collect.added(found, args.results / name)
                if kept := {collect.identity(run) for run in found.provenance} - now:
                    runs = "1 run is" if len(kept) == 1 else f"{len(kept)} runs are"
                    words = f"{runs} kept that were not found now: other variants or settings"
                    print(f"collect: {words}", file=sys.stderr)
        except ModuleNotFoundError as error:
            words = f"{error.name} knows an experiment's own runs: pip install 'bnrepro[train]', or take all with --all"
            print(f"collect: {words}", file=sys.stderr)
            return 2
        except ValueError as error:
            own = isinstance(error, tidy.MissingData) and not args.all
            hint = "; for runs with other settings than the experiment's file's, add --all" if own else ""
            if absent := [args.outputs / name for name in experiments if not (args.outputs / name).exists()]:
                hint = f"; there is no folder {absent[0]}{nearest_folder(absent[0])}"
            words = str(error).replace(str(args.outputs), args.wandb or str(args.outputs))
            print(f"collect: {words}{hint}", file=sys.stderr)
            return 1
        for run in found.unfinished:
            print(f"collect: not finished: {run}", file=sys.stderr)
        if others := _others([args.outputs / name for name in experiments], folders):
            runs = "1 run with other settings is" if others == 1 else f"{others} runs with other settings are"
            print(f"collect: {runs} left out; --all takes them as well", file=sys.stderr)
        try:
            gone = [] if args.add or args.replace else collect.left_out(found, args.results / name)
            if gone:
                more = f" and {len(gone) - 1} more" if gone[1:] else ""
                words = f"{args.results / name}.json has seeds that are not found now ({gone[0]}{more})"
                raise ValueError(f"{words}: --add keeps them, --replace leaves them out")
            written = collect.save(found, args.results / name)
        except (OSError, ValueError) as error:
            print(f"collect: {error}", file=sys.stderr)
            return 1
        print(f"{len(found.provenance)} runs, {len(found.frame):,} rows: {', '.join(map(str, written))}")
    return 0


def _others(experiments: list[Path], taken: list[Path]) -> int:
    """How many runs lie in the experiments' folders beside those that were taken."""
    found = {run.path for experiment in experiments for run in RunFolder.below(experiment)}
    return sum(not {path, *path.parents} & set(taken) for path in found)


if __name__ == "__main__":
    sys.exit(main())
