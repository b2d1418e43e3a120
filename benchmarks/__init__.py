"""The rows of the speed benchmarks: name -> (module, function, arguments). scripts/benchmark.py runs them."""

ROWS: dict[str, tuple[str, str, dict]] = {
    "limit": ("limit", "limit", {}),
    "dataloader": ("rivals", "dataloader", {}),
    "lightning": ("rivals", "in_lightning", {}),
    "eager": ("rivals", "eager", {"bn": False}),
    "eager-bn": ("rivals", "eager", {"bn": True}),
    "ensemble": ("rivals", "ensemble", {}),
    "numpy": ("numpy_page", "train", {}),
    "jax-1": ("jax_page", "train", {"replicas": 1, "bn": False}),
    "jax-10": ("jax_page", "train", {"replicas": 10, "bn": False}),
    "jax-10-bn": ("jax_page", "train", {"replicas": 10, "bn": True}),
    "ours-1": ("ours", "train", {"replicas": 1, "norm": "none"}),
    "ours-10": ("ours", "train", {"replicas": 10, "norm": "none"}),
    "ours-1-bn": ("ours", "train", {"replicas": 1, "norm": "bn"}),
    "ours-10-bn": ("ours", "train", {"replicas": 10, "norm": "bn"}),
    "measuring": ("ours", "measuring", {}),
    "memory": ("ours", "memory", {}),
    "first-step": ("ours", "first_step", {}),
    "compile": ("ours", "compiling", {}),
}
IMAGE_ROWS: dict[str, tuple[str, str, dict]] = {
    "images-limit": ("images", "flop_limit", {}),
    "images-reference": ("images", "reference", {}),
    "images-ours-1": ("images", "ours", {"seeds": 1}),
    "images-ours-2": ("images", "ours", {"seeds": 2}),
    "images-reference-32px": ("images", "reference", {"size": 32}),
    "images-ours-2-32px": ("images", "ours", {"seeds": 2, "size": 32}),
    "images-data": ("images", "data_share", {}),
    "decoding-1": ("images", "decoding", {"processes": 1}),
    "decoding-2": ("images", "decoding", {"processes": 2}),
}
# These use numpy's BLAS: its own choice of kernel is theirs, whatever a machine forces on its users.
OPENBLAS_ROWS = ("limit", "images-limit", "numpy")
