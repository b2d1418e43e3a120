"""The rows of the speed benchmarks: name -> (module, function, arguments). scripts/benchmark.py runs them."""

import os

ROWS: dict[str, tuple[str, str, dict]] = {
    "sgemm": ("limit", "sgemm", {}),
    "sgemm-shapes": ("limit", "sgemm_shapes", {}),
    "dataloader": ("rivals", "dataloader", {}),
    "lightning": ("rivals", "in_lightning", {}),
    "eager": ("rivals", "eager", {"bn": False}),
    "eager-bn": ("rivals", "eager", {"bn": True}),
}
for _name, _replicas, _drive, _workers in (
    ("ours-1", 1, "sequential", 1),
    ("ours-10-sequential", 10, "sequential", 1),
    ("ours-10-stacked", 10, "stacked", 1),
    ("ours-10-processes", 10, "sequential", os.cpu_count() or 1),
):
    for _norm, _suffix in (("none", ""), ("bn", "-bn")):
        _how = {"replicas": _replicas, "norm": _norm, "drive": _drive, "workers": _workers}
        ROWS[_name + _suffix] = ("ours", "train", _how)
IMAGE_ROWS: dict[str, tuple[str, str, dict]] = {
    "images-limit": ("images", "flop_limit", {}),
    "images-reference": ("images", "reference", {}),
    "images-ours-1": ("images", "ours", {"seeds": 1}),
    "images-ours-2": ("images", "ours", {"seeds": 2}),
    "images-data": ("images", "data_share", {}),
    "decoding-1": ("images", "decoding", {"processes": 1}),
    "decoding-2": ("images", "decoding", {"processes": 2}),
}
ROWS |= {name: ("ours", name.replace("-", "_"), {}) for name in ("recording", "memory", "first-step")}
