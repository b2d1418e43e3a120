"""Two gloo processes that share each mini-batch, against one process that has it whole."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from bnrepro.config import Config, ConfigError, DataConfig, EvalConfig, MLPConfig, OptimConfig, TrainConfig
from bnrepro.data import load
from bnrepro.machine import WorkerLost
from bnrepro.measure.evaluators import Measurer
from bnrepro.training.engines import Engine
from bnrepro.training.engines.data_parallel import DataParallel, is_main, world_size
from bnrepro.training.engines.eager import Eager
from bnrepro.training.state import Replica, State

STEPS = 5


def config(processes: int, **model) -> Config:
    return Config(
        seeds=1,
        data=DataConfig(batch_size=24, examples=480),
        model=MLPConfig(width=20, **model),
        optim=OptimConfig(momentum=0.9),
        train=TrainConfig(steps=STEPS, device="cpu", processes=processes),
        eval=EvalConfig(probe=False),
    )


def trained(engine: Engine, state: State) -> dict[str, float]:
    """What is measured after the last step, of which the loss is that of the last step alone."""
    engine.advance(state, 0, STEPS - 1)
    losses = engine.advance(state, STEPS - 1, STEPS)
    state.step = STEPS
    return Measurer(engine, state, engine.data)(state, losses)[0].values


def process(rank: int, cfg: Config, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    data = load(cfg.data)
    state = State([Replica(cfg, 0)], data)
    engine = DataParallel(state, data)
    if rank == 0:
        measured = trained(engine, state)
        engine.close()
        torch.save((state.params, measured), folder / "result.pt")
    else:
        for parameter in state.params.values():
            parameter.add_(1)  # what this process starts from must not matter
        engine.follow(state)


def trained_by_two(cfg: Config, folder: Path) -> tuple[dict, dict]:
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=process, args=(rank, cfg, folder)) for rank in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(timeout=60)
    assert [job.exitcode for job in jobs] == [0, 0]
    return torch.load(folder / "result.pt")


def trained_by_one(cfg: Config) -> tuple[State, dict[str, float]]:
    data = load(cfg.data)
    state = State([Replica(cfg, 0)], data)
    return state, trained(Eager(state, data), state)


@pytest.mark.parametrize("model", [{}, {"norm": "bn", "sync": True}], ids=["none", "bn over both"])
def test_two_processes_train_the_net_that_one_trains(model: dict, tmp_path: Path) -> None:
    params, measured = trained_by_two(config(2, **model), tmp_path)
    plain = {key: value for key, value in model.items() if key != "sync"}
    alone, expected = trained_by_one(config(1, **plain))
    for name, value in alone.params.items():
        torch.testing.assert_close(params[name], value, atol=2e-6, rtol=1e-5)
    assert measured == pytest.approx(expected, rel=1e-4)


def test_without_sync_each_process_normalizes_by_its_own_share(tmp_path: Path) -> None:
    params, _ = trained_by_two(config(2, norm="bn"), tmp_path)
    # groups of 12 consecutive examples: the same split
    alone, _ = trained_by_one(config(1, norm="ghost", ghost_size=12))
    for name, value in alone.params.items():
        torch.testing.assert_close(params[name], value, atol=2e-6, rtol=1e-5)


def test_a_mini_batch_that_cannot_be_shared_is_refused() -> None:
    cfg = config(1, norm="bn")
    with pytest.raises(ConfigError, match=r"data.batch_size=24: cannot be shared by 5 processes"):
        replace(cfg, train=replace(cfg.train, processes=5))
    with pytest.raises(ConfigError, match="BN needs 2 examples in each"):
        replace(cfg, train=replace(cfg.train, processes=24))


def alone(rank: int, how: str, folder: Path) -> None:
    """The main process trains; the other one ends or hangs after it was told to train as well."""
    torch.set_num_threads(1)
    method = {"init_method": f"file://{folder}/meet", "timeout": timedelta(seconds=2)}
    dist.init_process_group("gloo", rank=rank, world_size=2, **method)
    cfg = config(2)
    data = load(cfg.data)
    state = State([Replica(cfg, 0)], data)
    engine = DataParallel(state, data)
    if rank == 1:
        engine._tell(0, 0)
        os._exit(0) if how == "ends" else signal.pause()
    try:
        engine.advance(state, 0, STEPS)
    except WorkerLost as lost:
        (folder / "said").write_text(str(lost))
    engine.close()
    os._exit(0)


@pytest.mark.parametrize("how", ["ends", "hangs"])
def test_a_process_that_ends_or_hangs_is_said_in_one_line_and_not_waited_for(
    how: str, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=alone, args=(rank, how, tmp_path)) for rank in range(2)]
    for job in jobs:
        job.start()
    jobs[0].join(timeout=60)
    for job in jobs:
        job.kill()
    assert (
        tmp_path / "said"
    ).read_text() == "a process of this run ended, or did not answer for 10 minutes; the same command resumes"


def test_torchrun_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert world_size() == 1 and is_main()
    monkeypatch.setattr(os, "environ", os.environ | {"WORLD_SIZE": "4", "RANK": "3"})
    with pytest.raises(ConfigError, match="without MASTER_ADDR, MASTER_PORT"):
        world_size()
    monkeypatch.setattr(os, "environ", os.environ | {"MASTER_ADDR": "localhost", "MASTER_PORT": "29400"})
    assert world_size() == 4 and not is_main()
