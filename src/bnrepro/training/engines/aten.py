"""torch's operations in the words of jax.numpy, and programs of them as functions of JAX arrays.

The only file that imports jax; `xla.py` imports it when an XLA engine is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

# One thread a computation: replicas are what is shared out among cores. Read when JAX starts its CPU client.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from bnrepro.training.engines.trace import Program, Value

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)  # dropout's hash is int64, diagnostics are float64

DTYPES = {
    torch.float32: jnp.float32,
    torch.float64: jnp.float64,
    torch.int32: jnp.int32,
    torch.int64: jnp.int64,
    torch.uint8: jnp.uint8,
    torch.bool: jnp.bool_,
}


class Unsupported(NotImplementedError):
    """An operation that the table lacks."""


def _at(x: Any, dim: int, what: Any) -> Any:
    return x[(slice(None),) * (dim % x.ndim) + (what,)]


def _slice(x: Any, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Any:
    return _at(x, dim, slice(start, end, step))


def _dims(dims: Any) -> Any:
    return dims if dims is None or isinstance(dims, int) else tuple(dims) or None


def _sum(x: Any, dims: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    return jnp.sum(x, _dims(dims), keepdims=keepdim, dtype=DTYPES[dtype] if dtype else None)


def _mean(x: Any, dims: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    return jnp.mean(x, _dims(dims), keepdims=keepdim, dtype=DTYPES[dtype] if dtype else None)


def _norm(x: Any, order: float = 2, dims: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    if order != 2:
        raise Unsupported(f"linalg_vector_norm of order {order}")
    return jnp.sqrt(jnp.sum(jnp.square(x), _dims(dims), keepdims=keepdim))


def _log_softmax(x: Any, dim: int, _half: bool) -> Any:
    shifted = x - x.max(dim, keepdims=True)
    return shifted - jnp.log(jnp.exp(shifted).sum(dim, keepdims=True))


def _log_softmax_backward(grad: Any, y: Any, dim: int, _dtype: Any) -> Any:
    return grad - jnp.exp(y) * grad.sum(dim, keepdims=True)


def _nll(x: Any, target: Any, _weight: Any, reduction: int, _ignored: int) -> tuple[Any, Any]:
    loss = -jnp.take_along_axis(x, target[:, None], 1)[:, 0]
    reduced = (loss, loss.mean(), loss.sum())[reduction] if reduction else loss
    return reduced, jnp.asarray(x.shape[0], x.dtype)


def _nll_backward(
    grad: Any, x: Any, target: Any, _weight: Any, reduction: int, _ignored: int, total: Any
) -> Any:
    each = grad / total if reduction == 1 else jnp.broadcast_to(grad, target.shape)[:, None]
    return -jax.nn.one_hot(target, x.shape[1], dtype=x.dtype) * each


def _like(fill: float) -> Callable[..., Any]:
    return lambda x, *_, **__: jnp.full_like(x, fill)


def _filled(fill: float) -> Callable[..., Any]:
    return lambda size, *_, dtype=None, **__: jnp.full(size, fill, DTYPES[dtype or torch.get_default_dtype()])


def _variance(x: Any, dims: Any = None, *, correction: Any = 1, keepdim: bool = False) -> tuple[Any, Any]:
    axes = _dims(dims)
    return (
        jnp.var(x, axes, ddof=1 if correction is None else correction, keepdims=keepdim),
        jnp.mean(x, axes, keepdims=keepdim),
    )


def _clamp(x: Any, low: Any = None, high: Any = None) -> Any:
    return jnp.clip(x, low, high)


def _as_is(x: Any, *_: Any, **__: Any) -> Any:
    return x


def _as_strided(x: Any, size: Any, stride: Any, offset: int = 0) -> Any:
    """x is contiguous: trace.py sees to that."""
    grids = np.meshgrid(*(np.arange(n) for n in size), indexing="ij", sparse=True)
    return x.ravel()[sum((g * s for g, s in zip(grids, stride, strict=True)), start=np.asarray(offset or 0))]


def _weight_norm_backward(grad: Any, v: Any, g: Any, norms: Any, dim: int) -> tuple[Any, Any]:
    """Of w = g * v / |v|, the norm over all dimensions but `dim`: the gradients of v and g."""
    others = tuple(d for d in range(v.ndim) if d != dim)
    along = (grad * v).sum(others, keepdims=True)
    return g / norms * (grad - v * along / norms**2), along / norms


def _arange(*bounds: Any, dtype: Any = None, **_: Any) -> Any:
    return jnp.arange(*bounds, dtype=DTYPES[dtype or torch.int64])


TABLE: dict[str, Callable[..., Any]] = {
    # views and copies
    **dict.fromkeys(("detach", "alias", "clone", "lift_fresh", "contiguous"), _as_is),
    "_to_copy": lambda x, dtype=None, **_: x if dtype is None else x.astype(DTYPES[dtype]),
    "copy": lambda x, y, *_: jnp.broadcast_to(y, x.shape),
    **dict.fromkeys(("view", "_unsafe_view", "reshape"), lambda x, size: x.reshape(size)),
    "t": lambda x: x.T,
    "transpose": jnp.swapaxes,
    "permute": jnp.transpose,
    "expand": lambda x, size, **_: jnp.broadcast_to(
        x, [n if n >= 0 else x.shape[i - len(size)] for i, n in enumerate(size)]
    ),
    "unsqueeze": jnp.expand_dims,
    "squeeze": lambda x, dims=None: jnp.squeeze(x, _dims(dims)),
    "select": lambda x, dim, index: _at(x, dim, index),
    "slice": _slice,
    "cat": lambda parts, dim=0: jnp.concatenate(parts, dim),
    "stack": lambda parts, dim=0: jnp.stack(parts, dim),
    "repeat": lambda x, times: jnp.tile(x, times),
    "index": lambda x, index: x[tuple(slice(None) if i is None else i for i in index)],
    "index_select": lambda x, dim, index: jnp.take(x, index, dim),
    "as_strided": _as_strided,
    "diagonal": lambda x, offset=0, dim1=0, dim2=1: jnp.diagonal(x, offset, dim1, dim2),
    # new tensors
    "arange": _arange,
    **dict.fromkeys(("zeros", "empty"), _filled(0)),
    "ones": _filled(1),
    "linspace": lambda start, end, steps, dtype=None, **_: jnp.linspace(
        start, end, steps, dtype=DTYPES[dtype or torch.get_default_dtype()]
    ),
    "full": lambda size, fill, dtype=None, **_: jnp.full(size, fill, DTYPES[dtype] if dtype else None),
    **dict.fromkeys(("zeros_like", "zero"), _like(0)),
    "ones_like": _like(1),
    "new_zeros": lambda x, size, **_: jnp.zeros(size, x.dtype),
    "fill": lambda x, value: jnp.full_like(x, value),
    "scalar_tensor": lambda x, dtype=None, **_: jnp.asarray(x, DTYPES[dtype] if dtype else None),
    # arithmetic
    "add": lambda a, b, alpha=1: a + b if alpha == 1 else a + alpha * b,
    "sub": lambda a, b, alpha=1: a - b if alpha == 1 else a - alpha * b,
    "rsub": lambda a, b, alpha=1: b - alpha * a,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "abs": jnp.abs,
    "pow": lambda a, b: a * a if isinstance(b, int | float) and b == 2 else a**b,
    "sqrt": jnp.sqrt,
    "rsqrt": lax.rsqrt,
    "reciprocal": lambda a: 1 / a,
    "exp": jnp.exp,
    "log": jnp.log,
    "log10": jnp.log10,
    "addcmul": lambda a, b, c, value=1: a + value * b * c,
    "clamp": _clamp,
    "clamp_min": lambda x, low: jnp.maximum(x, low),
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "where": jnp.where,
    "nan_to_num": lambda x, nan=0.0, posinf=None, neginf=None: jnp.nan_to_num(
        x, nan=0.0 if nan is None else nan, posinf=posinf, neginf=neginf
    ),
    # matrices
    "mm": jnp.matmul,
    "bmm": jnp.matmul,
    "mv": jnp.matmul,
    "addmm": lambda bias, a, b, **_: bias + jnp.matmul(a, b),
    # reductions
    "sum": _sum,
    "mean": _mean,
    "var_mean": _variance,
    "amax": lambda x, dims=None, keepdim=False: jnp.max(x, _dims(dims), keepdims=keepdim),
    "amin": lambda x, dims=None, keepdim=False: jnp.min(x, _dims(dims), keepdims=keepdim),
    "max": jnp.max,
    "min": jnp.min,
    "all": lambda x, dim=None, keepdim=False: jnp.all(x, dim, keepdims=keepdim),
    "any": lambda x, dim=None, keepdim=False: jnp.any(x, dim, keepdims=keepdim),
    "argmax": lambda x, dim=None, keepdim=False: jnp.argmax(x, dim, keepdims=keepdim),
    "linalg_vector_norm": _norm,
    # comparisons and bits
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
    "le": lambda a, b: a <= b,
    "lt": lambda a, b: a < b,
    "eq": lambda a, b: a == b,
    "isnan": jnp.isnan,
    "isfinite": jnp.isfinite,
    "logical_not": jnp.logical_not,
    "__rshift__": lambda a, b: a >> b,
    "bitwise_xor": lambda a, b: a ^ b,
    "bitwise_and": lambda a, b: a & b,
    # nonlinearities and losses
    "sigmoid": jax.nn.sigmoid,
    "sigmoid_backward": lambda grad, y: grad * (y * (1 - y)),
    "tanh": jnp.tanh,
    "tanh_backward": lambda grad, y: grad * (1 - y * y),
    "relu": lambda x: jnp.maximum(x, 0),
    "_weight_norm_interface_backward": _weight_norm_backward,
    "threshold_backward": lambda grad, x, at: jnp.where(x <= at, 0, grad),
    "_log_softmax": _log_softmax,
    "_log_softmax_backward_data": _log_softmax_backward,
    "nll_loss_forward": _nll,
    "nll_loss_backward": _nll_backward,
}


def missing(program: Program) -> list[str]:
    """Names of operations that the table lacks."""
    return sorted({call.name for call in program.calls} - set(TABLE))


def as_jax(program: Program) -> Callable[..., list[jax.Array]]:
    """The program as a function of JAX arrays. Raises Unsupported, naming what the table lacks."""
    if lacking := missing(program):
        raise Unsupported(f"{', '.join(lacking)} has no counterpart in XLA's table")

    def function(*inputs: Any) -> list[jax.Array]:
        values: dict[int, Any] = dict(enumerate(inputs))
        values |= {number: jnp.asarray(tensor.numpy()) for number, tensor in program.constants.items()}

        def given(nested: Any) -> Any:
            if isinstance(nested, Value):
                return values[nested.number]
            if isinstance(nested, tuple | list):
                return type(nested)(map(given, nested))
            return nested

        for call in program.calls:
            kwargs = {k: given(v) for k, v in call.kwargs.items()}
            made = TABLE[call.name](*given(call.args), **kwargs)
            made = made if isinstance(made, tuple) else (made,)
            for number, value, dtype in zip(call.results, made, call.dtypes, strict=True):
                values[number] = value.astype(DTYPES[dtype])  # torch's own promotion, as recorded
        return [values[result.number] for result in program.results]

    return function


def to_jax(tensor: torch.Tensor) -> jax.Array:
    """A copy: XLA's arrays never change, torch's do."""
    return jnp.array(tensor.numpy(), copy=True)


def to_torch(array: jax.Array) -> torch.Tensor:
    return torch.from_numpy(np.array(array))
