"""Two gloo processes that share each mini-batch, against one process that has it whole."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from bnrepro.config import Config, ConfigError, DataConfig, EvalConfig, ModelConfig, OptimConfig, TrainConfig
from bnrepro.data import load
from bnrepro.parallel import DataParallel
from bnrepro.replicas import Replicas

STEPS = 5


def config(processes: int, **model) -> Config:
    return Config(
        seeds=1,
        data=DataConfig(batch_size=24, examples=480),
        model=ModelConfig(width=20, **model),
        optim=OptimConfig(momentum=0.9),
        train=TrainConfig(steps=STEPS, device="cpu", compile="off", processes=processes),
        eval=EvalConfig(probe=False),
    )


def process(rank: int, cfg: Config, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    replicas = DataParallel([cfg], load(cfg.data), torch.device("cpu"))
    if rank == 0:
        replicas.advance(STEPS - 1, measure=False)
        measured = replicas.advance(STEPS)
        replicas.close()
        torch.save((replicas.params, measured[0][0]), folder / "result.pt")
    else:
        for parameter in replicas.params.values():
            parameter.add_(1)  # what this process starts from must not matter
        replicas.follow()


def trained_by_two(cfg: Config, folder: Path) -> tuple[dict, dict]:
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=process, args=(rank, cfg, folder)) for rank in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(timeout=60)
    assert [job.exitcode for job in jobs] == [0, 0]
    return torch.load(folder / "result.pt")


@pytest.mark.parametrize("model", [{}, {"norm": "bn", "sync": True}], ids=["none", "bn over both"])
def test_two_processes_train_the_net_that_one_trains(model: dict, tmp_path: Path) -> None:
    params, measured = trained_by_two(config(2, **model), tmp_path)
    plain = {key: value for key, value in model.items() if key != "sync"}
    alone = Replicas([config(1, **plain)], load(config(1).data), torch.device("cpu"))
    alone.advance(STEPS - 1, measure=False)
    expected = alone.advance(STEPS)[0][0]
    for name, value in alone.params.items():
        torch.testing.assert_close(params[name], value, atol=2e-6, rtol=1e-5)
    assert measured == pytest.approx(expected, rel=1e-4)


def test_without_sync_each_process_normalizes_by_its_own_share(tmp_path: Path) -> None:
    params, _ = trained_by_two(config(2, norm="bn"), tmp_path)
    ghost = config(1, norm="ghost", ghost_size=12)  # groups of 12 consecutive examples: the same split
    alone = Replicas([ghost], load(ghost.data), torch.device("cpu"))
    alone.advance(STEPS, measure=False)
    for name, value in alone.params.items():
        torch.testing.assert_close(params[name], value, atol=2e-6, rtol=1e-5)


def test_a_mini_batch_that_cannot_be_shared_is_refused() -> None:
    cfg = config(1, norm="bn")
    with pytest.raises(ConfigError, match=r"data.batch_size=24: cannot be shared by 5 processes"):
        replace(cfg, train=replace(cfg.train, processes=5))
    with pytest.raises(ConfigError, match="BN needs 2 examples in each"):
        replace(cfg, train=replace(cfg.train, processes=24))


def test_torchrun_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from bnrepro import parallel

    assert parallel.processes() == 1 and parallel.leads()
    monkeypatch.setattr(os, "environ", os.environ | {"WORLD_SIZE": "4", "RANK": "3"})
    assert parallel.processes() == 4 and not parallel.leads()
