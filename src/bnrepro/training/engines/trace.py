"""A torch function -> the list of tensor operations it is made of.

The function is run once, as it is, and every operation that torch dispatches is noted, those of autograd's
backward pass included. An operation in place becomes a new value of the same tensor, so that the list has no
side effects. torch.fx's make_fx does the same and more; importing what it needs takes 5 s, three times as
long as all the rest of getting ready.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._decomp import get_decompositions
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
# Taken apart into simpler ones, by torch's own rules:
COMPOSED = get_decompositions(
    [
        *(aten.native_group_norm, aten.native_group_norm_backward),
        *(aten.native_layer_norm, aten.native_layer_norm_backward),
        *(aten.native_batch_norm, aten.native_batch_norm_backward, aten._native_batch_norm_legit),
        aten._weight_norm_interface,
    ]
)


class Value(NamedTuple):
    """A place in a program's list of values."""

    number: int


class Call(NamedTuple):
    name: str  # of the operation, as in torch.ops.aten, without overload and underscore
    args: Any
    kwargs: Any
    results: tuple[int, ...]  # places of the values it makes
    dtypes: tuple[torch.dtype, ...]  # of them


class Program(NamedTuple):
    """Values 0..inputs-1 are given; calls make the others; `results` are the function's."""

    inputs: int
    constants: dict[int, Tensor]
    calls: list[Call]
    results: list[Value]

    def fingerprint(self) -> str:
        """Equal for programs that do the same with tensors of the same shapes."""
        constants = [(n, t.shape, t.dtype, t.numpy().tobytes()) for n, t in sorted(self.constants.items())]
        return hashlib.sha256(repr((self.inputs, constants, self.calls, self.results)).encode()).hexdigest()


def traced(function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]) -> Program:
    """`function` of these inputs as a program. The inputs are executed on; they must not be changed in place."""
    recorder = _Recorder(inputs)
    with recorder:
        results = function(*inputs)
    return Program(
        len(inputs), recorder.constants, recorder.calls, [recorder.value(result) for result in results]
    )


class _Recorder(TorchDispatchMode):
    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.constants: dict[int, Tensor] = {}
        self._number = 0
        self._numbers: dict[tuple, int] = {}
        self._changed: set[int] = set()  # memory that an operation in place has written to
        self._kept: list[Tensor] = []  # alive to the end, so that no two of them ever share memory by chance
        for tensor in inputs:
            self._new(tensor)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch.compile never sees this mode; keeping it away would import it, for 5 s

    def value(self, tensor: Tensor) -> Value:
        """A tensor that nobody made before is a constant of the function.

        Raises NotImplementedError for another view of what was changed in place: its value is not known.
        """
        if (place := _place(tensor)) not in self._numbers:
            if place[0] in self._changed:
                raise NotImplementedError("a view of a tensor that was changed in place is not followed")
            self.constants[self._new(tensor)] = tensor.detach().cpu().clone()
        return Value(self._numbers[place])

    def _new(self, tensor: Tensor) -> int:
        self._kept.append(tensor)
        number, self._number = self._number, self._number + 1
        self._numbers[_place(tensor)] = number
        return number

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in COMPOSED:
            with self:
                return COMPOSED[func](*args, **kwargs)
        with self:  # operations that torch itself composes of others
            composed = func.decompose(*args, **kwargs)
        if composed is not NotImplemented:
            return composed
        given = _mapped(self.value, args), _mapped(self.value, kwargs)
        result = func(*args, **kwargs)
        tensors = [t for t in (result if isinstance(result, tuple | list) else (result,)) if t is not None]
        name = func.overloadpacket.__name__
        if name == "as_strided" and not args[0].is_contiguous():
            name += " of a tensor that is not contiguous"
        if func._schema.is_mutable:
            name = name.rstrip("_")
            memory = args[0].untyped_storage().data_ptr()
            for place in [p for p in self._numbers if p[0] == memory]:
                del self._numbers[place]  # other views of what was changed hold no value that is known
            self._changed.add(memory)
        numbers = tuple(self._new(t) for t in tensors)
        self.calls.append(Call(name, *given, numbers, tuple(t.dtype for t in tensors)))
        return result


def _place(tensor: Tensor) -> tuple:
    """Where a tensor lies: autograd hands over other objects for the same memory."""
    where = tensor.untyped_storage().data_ptr(), tensor.storage_offset()
    return *where, tuple(tensor.shape), tensor.stride(), tensor.dtype


def _mapped(value: Callable[[Tensor], Value], nested: Any) -> Any:
    if isinstance(nested, Tensor):
        return value(nested)
    if isinstance(nested, tuple | list):
        return type(nested)(_mapped(value, each) for each in nested)
    if isinstance(nested, dict):
        return {k: _mapped(value, v) for k, v in nested.items()}
    return nested
