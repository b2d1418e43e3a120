"""How much memory a run takes, about: so that one that cannot fit is refused before it starts."""

from __future__ import annotations

import os
from pathlib import Path

from bnrepro.config.checks import check
from bnrepro.config.parts import IMAGES, InceptionConfig, MLPConfig
from bnrepro.config.schema import Config

COPIES = 6  # of the parameters: themselves, gradient, velocity, a step's result, what is kept, the checkpoint
KEPT = 8  # tensors that a layer keeps for its backward pass, of the size of its output
MAPS = 60  # tensors that Inception keeps, of 64 maps at the size of its images
PIXELS = {"mnist5k": 784, "mnist": 784}
COUNT = {"mnist5k": 5_000, "mnist": 70_000}
GIB = 2**30


def memory(*cfgs: Config) -> float:
    """Bytes that all seeds of runs on the same data take while they train side by side, float32. An estimate."""
    return sum(map(_replicas, cfgs)) + _images(cfgs[0])


def _replicas(cfg: Config) -> float:
    m, model = cfg.data.batch_size, cfg.model
    if isinstance(model, MLPConfig):
        w, d = model.width, model.depth
        parameters = 784 * w + (d - 1) * w * w + 10 * w + 5 * d * w
        activations = KEPT * m * (784 + d * w)
    else:
        assert isinstance(model, InceptionConfig)
        size = cfg.data.size or 64
        parameters = 11_300_000 * model.multiplier**2
        activations = m * size * size * 64 * max(model.multiplier, 0.02) * MAPS / 4
    return len(cfg.seeds) * 4.0 * (COPIES * parameters + activations)


def _images(cfg: Config) -> float:
    if cfg.data.name in IMAGES:
        return 3.0 * (cfg.data.size or 64) ** 2 * cfg.data.batch_size
    return float(PIXELS[cfg.data.name] * COUNT[cfg.data.name])


def fits(*cfgs: Config) -> bool:
    """Whether runs can train side by side in train.memory, or in what is free on this machine."""
    return memory(*cfgs) <= (cfgs[0].train.memory * GIB or free())


def check_memory(cfg: Config) -> None:
    """Raises ConfigError where a run needs more than train.memory, or than what is free on this machine."""
    needed, given = memory(cfg) / GIB, cfg.train.memory
    there = given or free() / GIB
    whose = "train.memory" if given else "free here"
    check(
        needed <= there,
        f"this run takes about {needed:,.1f} GiB ({len(cfg.seeds)} seeds side by side), and {there:,.1f} are"
        f" {whose}: make model or batch smaller, train fewer seeds at a time, or set train.memory={needed:.0f} to try",
    )


def free(container: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes of memory that a process may still take: of the machine, or of the container, if that is less."""
    found = [float("inf")]
    try:
        with open("/proc/meminfo") as lines:
            found += [1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
        limit = float((container / "memory.max").read_text())  # "max" where there is none
        used = float((container / "memory.current").read_text())
        stat = dict(line.split() for line in (container / "memory.stat").read_text().splitlines())
        found.append(limit - used + float(stat["inactive_file"]))  # which the kernel gives back
    except (OSError, ValueError, KeyError):
        pass
    if len(found) == 1 and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES"))
    return min(found)
