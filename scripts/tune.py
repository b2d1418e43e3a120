"""Tune settings with Optuna on held-out images; the same command goes on where it stopped.

    python scripts/tune.py --trials 30 variant=bn data.holdout=1000 train.steps=2000 \\
        optim.lr=log:0.01..10 model.init_std=0.03,0.1,0.3

Settings are those of scripts/train.py. A setting of several values is tuned:
    optim.lr=log:0.01..10      any value between, on a logarithmic scale
    model.dropout=0..0.5       any value between
    model.width=50,100,200     one of these
What counts is the final accuracy on data.holdout, mean over seeds; the test set is not looked at. Trials are ordinary
runs below outputs/tune/<study>, and the study's journal is beside them.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bnrepro import files
from bnrepro.analysis import summary
from bnrepro.config import Config, ConfigError
from bnrepro.config.checks import check
from bnrepro.config.commandline import quoted
from bnrepro.config.compose import single
from bnrepro.config.refusal import kinds
from bnrepro.machine import answer_signals
from bnrepro.progress import progress
from bnrepro.runs.ending import ended_by
from bnrepro.runs.folder import RunFolder
from bnrepro.runs.run import check as refused
from bnrepro.runs.run import run

BEST = 5  # trials shown at the end


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--trials", type=int, default=20, help="in all, those of earlier sessions included (%(default)s)"
    )
    parser.add_argument("--study", default="study", help="its name (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("outputs/tune"), help="(%(default)s)")
    parser.add_argument("settings", nargs="+")
    args = parser.parse_args()
    try:
        check(args.trials >= 1, f"--trials {args.trials}: at least 1")
        return tuned(args)
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is not installed: pip install 'bnrepro[tune]'", file=sys.stderr)
        return 2
    except files.Busy:
        print(
            f"error: another process works on {args.output / args.study}; give --study another name",
            file=sys.stderr,
        )
        return 2
    except BaseException as error:
        return ended_by(error, OSError, ValueError)


def tuned(args: argparse.Namespace) -> int:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, fixed = parted(args.settings)
    place = args.output / args.study
    check(not args.output.is_file(), f"--output {args.output}: a file; name a folder")
    fixed = [*fixed, f"output={quoted(str(place))}"]
    for point in looked_at(space):
        settings = [*fixed, *(f"{key}={value}" for key, value in point.items())]
        refused(tunable(single(settings, one_of_many=True)))
    place.mkdir(parents=True, exist_ok=True)
    with files.locked(place / "lock"):
        storage = JournalStorage(JournalFileBackend(str(place / "journal.log")))
        study = optuna.create_study(
            storage=storage, study_name=args.study, direction="maximize", load_if_exists=True
        )
        same = study.user_attrs.get("settings", args.settings)
        check(
            sorted(same) == sorted(args.settings),
            f"{place} tunes {' '.join(same)}; give --study another name",
        )
        study.set_user_attr("settings", args.settings)
        for trial in study.get_trials(states=[TrialState.RUNNING]):  # of a session that was killed
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)
        done = [t for t in study.trials if t.state.is_finished() and t.state.name == "COMPLETE"]
        study.sampler = optuna.samplers.TPESampler(
            seed=len(study.trials)
        )  # a seed of its own for each session
        for number in range(len(done), args.trials):
            trial = study.ask()
            point = [f"{key}={asked(trial, key, *how)!r}".replace("'", "") for key, how in space.items()]
            try:
                cfg = single([*fixed, *point], one_of_many=True)
            except ConfigError as error:  # such as a size that is no multiple of another: the study goes on
                study.tell(trial, state=TrialState.PRUNED)
                print(f"{number + 1}/{args.trials} left out: {error}", file=sys.stderr)
                continue
            words = " ".join(
                f"{key.split('.')[-1]} {value:.4g}"
                if isinstance(value, float)
                else f"{key.split('.')[-1]} {value}"
                for key, value in trial.params.items()
            )
            with progress(f"{number + 1}/{args.trials} {words}", cfg.steps, len(cfg.seeds)) as update:
                run(cfg, update)
            study.tell(trial, accuracy(cfg))
        told(study, args)
    return 0


def parted(settings: list[str]) -> tuple[dict[str, tuple[str, list]], list[str]]:
    """(what is tuned: kind and values or bounds, what is fixed). Raises ConfigError."""
    space: dict[str, tuple[str, list]] = {}
    fixed = []
    for setting in settings:
        key, _, value = setting.partition("=")
        check(key != "output", f"{setting}: the option --output says where a study lies")
        check(not key.startswith("hydra"), f"{setting}: a study is trained here, without a launcher")
        kind, bounds = ("log", value[4:]) if value.startswith("log:") else ("linear", value)
        if ".." in bounds and kinds().get(key) in (int, float):
            try:
                low, high = (kinds()[key](end) for end in bounds.split(".."))
            except ValueError as error:
                raise ConfigError(
                    f"{setting}: bounds are two numbers, as in optim.lr=log:0.01..10"
                ) from error
            check(low < high, f"{setting}: from the lower bound to the higher")
            check(low > 0 or kind == "linear", f"{setting}: a logarithmic scale needs bounds above 0")
            space[key] = (kind, [low, high])
        elif "," in value and not value.startswith("["):
            single_one = (
                f"{setting}: a trial's mean is over its seeds; give a number, a range or a list [0,1]"
            )
            check(key != "seeds", single_one)
            space[key] = ("choice", value.split(","))
        else:
            fixed.append(setting)
    check(bool(space), "nothing to tune: give a setting several values, as in optim.lr=log:0.01..10")
    return space, fixed


def looked_at(space: dict[str, tuple[str, list]]) -> Iterator[dict[str, Any]]:
    """Points of the space that stand for all of it: both ends of every range, and every value of a choice."""
    ends = [{key: values[corner] for key, (_, values) in space.items()} for corner in (0, -1)]
    yield from ends
    for key, (kind, values) in space.items():
        if kind == "choice":
            yield from (ends[0] | {key: value} for value in values[1:])


def tunable(cfg: Config) -> Config:
    check(
        cfg.data.holdout > 0,
        "data.holdout=0: tuning on the test set spoils it; set data.holdout=1000, for example",
    )
    return cfg


def asked(trial, key: str, kind: str, values: list):
    if kind == "choice":
        return trial.suggest_categorical(key, values)
    suggest = trial.suggest_int if kinds()[key] is int else trial.suggest_float
    return suggest(key, *values, log=kind == "log")


def accuracy(cfg: Config) -> float:
    """Final accuracy on the held-out images, mean over seeds; a net that diverged counts as 0."""
    found = summary.curves(RunFolder.of(cfg))
    assert found is not None
    finals = [0.0 if seed in found.diverged else points[-1][1] for seed, points in found.seeds.items()]
    return sum(finals) / len(finals)


def told(study, args: argparse.Namespace) -> None:
    good = sorted((t for t in study.trials if t.value is not None), key=lambda t: -t.value)
    check(bool(good), "no trial of this study could be trained: change the bounds, under another --study")
    table = Table("trial", *(key for key in good[0].params), "accuracy on held-out images, %")
    for trial in good[:BEST]:
        table.add_row(
            str(trial.number),
            *(f"{v:.4g}" if isinstance(v, float) else str(v) for v in trial.params.values()),
            f"{100 * trial.value:.2f}",
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    print("best: " + " ".join(f"{key}={value}" for key, value in good[0].params.items()))
    print(f"runs: {args.output / args.study}")


if __name__ == "__main__":
    answer_signals()
    sys.exit(main())
