"""What is measured at an evaluation: one evaluator for each name that the configuration's `eval` lists.

To add one: write a function (measurer, state, last) -> Measures of each replica, name it in EVALUATORS and as a
field of EvalConfig, which turns it on, and declare its metrics in metrics.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from bnrepro.config import BATCH_NORMS
from bnrepro.data import Dataset
from bnrepro.measure.diagnostics import diagnose
from bnrepro.measure.evaluate import (
    Values,
    evaluate,
    evaluate_by_batch,
    evaluate_test,
    evaluate_train,
    with_population_statistics,
)
from bnrepro.measure.probe import Histogram, batch_noise, distributions, histogram, typical_unit, watched
from bnrepro.models import build
from bnrepro.training.engines import Engine
from bnrepro.training.state import State

UNITS = 10  # evaluations: the first ten, then each tenth; a row a unit makes tables a hundred times as long


class Measures(NamedTuple):
    """Of one replica at one step."""

    values: dict[str, float]
    histograms: dict[str, Histogram]


class Evaluator(NamedTuple):
    measure: Callable[[Measurer, State, bool], list[Measures]]
    only_last: bool = False  # at the last step of a run only


class Measurer:
    """Measures all replicas of a state with the engine that trains them. Changes nothing."""

    def __init__(self, engine: Engine, state: State, data: Dataset) -> None:
        self.engine, self.data, self.cfg = engine, data, state.replicas[0].cfg
        self.batch_size = self.cfg.data.batch_size  # examples that share BN's statistics
        if not self.cfg.model.sync:
            self.batch_size //= self.cfg.train.processes
        nets = [build(cfg.model, data.shape, data.classes).reset(seed) for cfg, seed in state.replicas]
        each = [{tap: typical_unit(w) for tap, w in net.probed().items()} for net in nets]
        self.units = {
            layer: [units[layer] for units in each] for layer in each[0]
        }  # typical, of each replica

    def __call__(self, state: State, losses: Tensor) -> list[Measures]:
        """Of each replica at state.step; losses (S, K): those of the K training steps before it."""
        measured = [Measures({}, {}) for _ in range(len(state))]
        diverged = state.note_divergence(losses, state.step - losses.shape[1])
        for s, (values, _) in enumerate(measured):
            if losses.shape[1]:
                values["train/loss"] = losses[s].double().mean().item()
            if diverged[s]:
                values["diverged_at"] = float(state.diverged_at[s])
        last = state.step == self.cfg.steps
        for name, evaluator in EVALUATORS.items():
            if getattr(self.cfg.eval, name, True) and (last or not evaluator.only_last):
                for mine, found in zip(measured, evaluator.measure(self, state, last), strict=True):
                    mine.values.update(found.values)
                    mine.histograms.update(found.histograms)
        return measured


def _split(measurer: Measurer, state: State, last: bool) -> list[Measures]:
    return _plain(evaluate(measurer.engine, state, measurer.data))


def _train(measurer: Measurer, state: State, last: bool) -> list[Measures]:
    return _plain(evaluate_train(measurer.engine, state, measurer.data))


def _test(measurer: Measurer, state: State, last: bool) -> list[Measures]:
    return _plain(evaluate_test(measurer.engine, state, measurer.data))


def _probe(measurer: Measurer, state: State, last: bool) -> list[Measures]:
    inputs = watched(measurer.engine, state, measurer.data, measurer.batch_size, list(measurer.units))
    measured = [Measures({}, {}) for _ in range(len(state))]
    wanted = measurer.cfg.record.histograms
    span = UNITS * measurer.cfg.every
    single = measurer.cfg.eval.units and (last or state.step <= span or state.step % span == 0)
    for layer, u in inputs.items():
        for s, values in enumerate(distributions(layer, u, measurer.units[layer], single)):
            measured[s].values.update(values)
            if wanted and sum((found := histogram(u[s]))[0]):  # a net that diverged has none
                measured[s].histograms[f"probe/{layer}/histogram"] = found
    return measured


def _diagnose(measurer: Measurer, state: State, last: bool) -> list[Measures]:
    return _plain(diagnose(measurer.engine, state, measurer.data))


def _statistics(measurer: Measurer, state: State, last: bool) -> list[Measures]:
    """With BN: population statistics at the last step, where eval.test asks for it on the test set, too.

    Of images that training varies also those of the plain ones. eval.population_curve: population statistics at every
    evaluation; eval.inference: and the test batches' own.
    """
    asked, test = measurer.cfg.eval, measurer.cfg.eval.test and last
    if measurer.cfg.model.norm not in BATCH_NORMS or not (last or asked.inference or asked.population_curve):
        return [Measures({}, {}) for _ in range(len(state))]
    given = (measurer.data, measurer.batch_size)
    population = with_population_statistics(measurer.engine, state, *given)
    found = _plain(evaluate(measurer.engine, population, measurer.data, "_population"))
    more = [evaluate_by_batch(measurer.engine, state, *given)] if asked.inference else []
    more += [evaluate_test(measurer.engine, population, measurer.data, "_population")] if test else []
    if last and measurer.data.augment is not None:
        plain = with_population_statistics(measurer.engine, state, *given, plain=True)
        more.append(evaluate(measurer.engine, plain, measurer.data, "_population_plain"))
        more += [evaluate_test(measurer.engine, plain, measurer.data, "_population_plain")] if test else []
    for values in more:
        for mine, other in zip(found, values, strict=True):
            mine.values.update(other)
    return found


def _noise(measurer: Measurer, state: State, last: bool) -> list[Measures]:
    if measurer.cfg.model.norm not in BATCH_NORMS:
        return [Measures({}, {}) for _ in range(len(state))]
    (units,) = measurer.units.values()
    return _plain(batch_noise(measurer.engine, state, measurer.data, units))


def _plain(values: Values) -> list[Measures]:
    return [Measures(each, {}) for each in values]


# In the order in which their rows are written. A name is that of a field of EvalConfig, which turns it on; those
# that are no field are always on.
EVALUATORS = {
    "split": Evaluator(_split),
    "train": Evaluator(_train),
    "test": Evaluator(_test, only_last=True),
    "probe": Evaluator(_probe),
    "diagnose": Evaluator(_diagnose),
    "statistics": Evaluator(_statistics),
    "noise": Evaluator(_noise, only_last=True),
}
