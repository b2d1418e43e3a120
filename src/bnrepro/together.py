"""Which settings fit together: the checks of a configuration that look at more than one of its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnrepro.checks import check

if TYPE_CHECKING:
    from bnrepro.config import Config

NORMS = ("none", "bn", "torch", "renorm", "ghost", "group", "layer", "weight")
BATCH_NORMS = ("bn", "torch", "renorm", "ghost")  # those that take statistics over the mini-batch
IMAGES = ("tiny_imagenet", "imagenette", "imagefolder", "shapes")  # colour images, decoded once into a cache
SMALLEST = {"small": 32, "imagenet": 128}  # image sizes from which the stem leaves stage 5 at least 2 x 2
# What would change a run's name and nothing else, if it were set for the other kind of net or data:
MLP_ONLY = ("width", "depth", "init_std")
INCEPTION_ONLY = ("multiplier", "stem", "lrn", "separable", "per_activation", "init_scale", "native")
COLOUR_ONLY = ("num_classes", "size", "corrupt", "decode", "crop", "flip", "distort")


def check_together(cfg: Config) -> None:
    """Raises ConfigError for the first settings that contradict each other or have no effect together."""
    m = cfg.data.batch_size
    if cfg.model.norm in BATCH_NORMS:
        check(m > 1, "data.batch_size=1: Batch Normalization needs at least 2 examples")
    share, processes = m // cfg.train.processes, cfg.train.processes
    check(
        m % processes == 0 and (share > 1 or cfg.model.norm not in BATCH_NORMS),
        f"data.batch_size={m}: cannot be shared by {processes} processes (BN needs 2 examples in each)",
    )
    whole = m <= cfg.model.ghost_size or m % cfg.model.ghost_size == 0
    check(
        cfg.model.norm != "ghost" or whole,
        f"data.batch_size={m}: not a multiple of model.ghost_size={cfg.model.ghost_size}",
    )
    inception, images = cfg.model.name == "inception", cfg.data.name in IMAGES
    fits = "data=tiny_imagenet, imagenette, imagefolder or shapes" if inception else "data=mnist or mnist5k"
    check(
        not cfg.model.sync or processes > 1,
        "model.sync=true: only under torchrun, with 2 processes or more",
    )
    stream = cfg.data.decode == "stream"
    check(not (stream and cfg.train.drive == "stacked"), "train.drive=stacked needs data.decode=cache")
    check(inception == images, f"model.name={cfg.model.name} needs {fits}")
    if inception:
        least = SMALLEST[cfg.model.stem]
        large = cfg.data.size == 0 or cfg.data.size >= least
        check(large, f"data.size={cfg.data.size}: model.stem={cfg.model.stem} needs at least {least}")
        mlp_only = cfg.eval.noise or cfg.eval.diagnose
        check(not mlp_only, "eval.noise and eval.diagnose: only for model.name=mlp")
    model, data, other = type(cfg.model)(), type(cfg.data)(), "mlp" if inception else "inception"
    for key in MLP_ONLY if inception else INCEPTION_ONLY:
        same = getattr(cfg.model, key) == getattr(model, key)
        check(same, f"model.{key}: only for model.name={other}")
    for key in () if inception else COLOUR_ONLY:
        same = getattr(cfg.data, key) == getattr(data, key)
        check(same, f"data.{key}: only for colour images, data={', '.join(IMAGES)}")
