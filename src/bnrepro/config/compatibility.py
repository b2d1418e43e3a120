"""Which settings fit together: the checks that look at more than one part of a configuration."""

from __future__ import annotations

from bnrepro.config.checks import check
from bnrepro.config.parts import (
    BATCH_NORMS,
    IMAGES,
    NORMS,
    SMALLEST,
    DataConfig,
    EvalConfig,
    InceptionConfig,
    MLPConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)

# What would change a run's name and nothing else, if it were set for data that are not colour images:
COLOUR_ONLY = ("num_classes", "size", "corrupt", "decode", "crop", "flip", "distort")
# Which normalizations look at a setting:
OF_ACTIVATIONS = tuple(norm for norm in NORMS if norm not in ("none", "weight"))
LOOKED_AT_BY = {
    "model.placement": OF_ACTIVATIONS,
    "model.eps": OF_ACTIVATIONS,
    "model.bn_momentum": BATCH_NORMS,
    "model.native": ("bn",),
    "model.ghost_size": ("ghost",),
    "model.r_max": ("renorm",),
    "model.d_max": ("renorm",),
    "eval.population": BATCH_NORMS,
    "eval.population_curve": BATCH_NORMS,
    "eval.inference": BATCH_NORMS,
    "eval.noise": BATCH_NORMS,
}
DECAYS = ("optim.decay", "optim.decay_times", "optim.decay_steps")


def check_together(data: DataConfig, model: ModelConfig, train: TrainConfig, measured: EvalConfig) -> None:
    """Raises ConfigError for the first settings that contradict each other or have no effect together."""
    _batch(data.batch_size, model, train.processes, measured.noise)
    _images(data, model)
    _engine(data, model, train)
    if isinstance(model, InceptionConfig):
        mlp_only = measured.noise or measured.diagnose
        check(not mlp_only, "eval.noise and eval.diagnose: only for model=mlp")
    check(
        data.holdout > 0 or not measured.test,
        "eval.test=true: without data.holdout the test set is evaluated anyway",
    )
    check(measured.probe or not measured.units, "eval.units=true is part of eval.probe, which is off")
    check(
        not (measured.diagnose and model.norm == "weight"),
        "eval.diagnose: not for model.norm=weight, whose weight matrices are no parameters",
    )


def idle(key: str, model: ModelConfig, optim: OptimConfig, measured: EvalConfig) -> str:
    """Why nothing looks at the setting `key`, or "": two runs would differ in their names and in no number."""
    part, _, name = key.partition(".")
    own = {"model": model, "optim": optim, "eval": measured}.get(part)
    if not hasattr(own, name) or getattr(own, name) == getattr(type(own)(), name):
        return ""
    if (norms := LOOKED_AT_BY.get(key)) and model.norm not in norms:
        return f"no effect with model.norm={model.norm}; only with {', '.join(norms)}"
    if key in DECAYS and optim.schedule == "constant":
        return "no effect with optim.schedule=constant; only with exponential or step"
    return ""


def _batch(m: int, model: ModelConfig, processes: int, noise: bool) -> None:
    if model.norm in BATCH_NORMS:
        check(m > 1, "data.batch_size=1: Batch Normalization needs at least 2 examples")
    check(
        m % processes == 0 and (m // processes > 1 or model.norm not in BATCH_NORMS),
        f"data.batch_size={m}: cannot be shared by {processes} processes (BN needs 2 examples in each)",
    )
    if isinstance(model, MLPConfig) and model.norm == "ghost":
        whole = m <= model.ghost_size or m % model.ghost_size == 0
        check(whole, f"data.batch_size={m}: not a multiple of model.ghost_size={model.ghost_size}")
        power = model.ghost_size & (model.ghost_size - 1) == 0
        words = f"eval.noise=true looks at 4, 8, ..., 512 images: not in groups of model.ghost_size={model.ghost_size}"
        check(power or not noise, words)
    check(not model.sync or processes > 1, "model.sync=true: only under torchrun, with 2 processes or more")
    native = isinstance(model, InceptionConfig) and model.native
    check(not (model.sync and native), "model.sync=true: torch's kernel (model.native) cannot do it on a CPU")


def _images(data: DataConfig, model: ModelConfig) -> None:
    inception = isinstance(model, InceptionConfig)
    fits = "data=tiny_imagenet, imagenette, imagefolder or shapes" if inception else "data=mnist or mnist5k"
    check(inception == (data.name in IMAGES), f"model={model.name} needs {fits}")
    if isinstance(model, InceptionConfig):
        least = SMALLEST[model.stem]
        large = data.size == 0 or data.size >= least
        check(large, f"data.size={data.size}: model.stem={model.stem} needs at least {least}")
        return
    plain = type(data)()
    for key in COLOUR_ONLY:
        same = getattr(data, key) == getattr(plain, key)
        check(same, f"data.{key}: only for colour images, data={', '.join(IMAGES)}")


def _engine(data: DataConfig, model: ModelConfig, train: TrainConfig) -> None:
    engine, inception = train.engine, isinstance(model, InceptionConfig)
    check(
        not (engine == "xla" and inception),
        "train.engine=xla: only for model=mlp; convolutions run on train.engine=eager or cuda",
    )
    check(
        not (engine == "xla" and train.autocast != "off"),
        "train.engine=xla computes in float32; leave train.autocast or the engine out",
    )
    check(
        not (engine == "xla" and train.device == "cuda"),
        "train.engine=xla runs on the CPU; leave train.device=cuda out",
    )
    check(
        not (engine == "cuda" and train.device == "cpu"),
        "train.engine=cuda needs a GPU, not train.device=cpu",
    )
    check(
        not (engine in ("xla", "cuda") and train.processes > 1),
        f"train.engine={engine}: under torchrun steps are eager; leave the setting out",
    )
    check(not (engine == "cuda" and data.decode == "stream"), "train.engine=cuda needs data.decode=cache")
