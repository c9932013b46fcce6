"""Record the user's forward as a program of a few kinds of steps.

PyTorch runs the forward on real data while a dispatch mode sees every operation. The many
operations that mean the same become one kind (`addmm`, `mv` and `linear` are a product and
a sum), so that the rules of differentiation are few.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from proofread.gradients.graph.loops import hands_on, loop_of
from proofread.gradients.graph.lowerings import LOWERINGS, opaque
from proofread.gradients.graph.program import Program, Ref


class Untraceable(Exception):
    """The forward does something that cannot be recorded."""


class _ChangedView(Untraceable):
    """The forward writes into a part of a tensor, such as `y[:, 0] *= 2`."""


class _Recorder(TorchDispatchMode):
    def __init__(self, program: Program, functional: bool = False, once: bool = False) -> None:
        super().__init__()
        self.program, self.functional, self.once = program, functional, once
        self.repeats = False
        self.known: dict[int, Ref] = {}
        self.written: dict[tuple, Any] = {}
        self.alive: list[Any] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip it, PyTorch would import all of its compiler, for a second

    def know(self, tensor: Tensor, ref: Ref) -> None:
        self.known[id(tensor)] = ref
        self.alive.append(tensor)

    def refer(self, argument: Any) -> Any:
        if isinstance(argument, Tensor):
            if id(argument) not in self.known:
                self.know(argument, self.program.leaf(argument.clone(), "", "captured"))
            return self.known[id(argument)]
        if isinstance(argument, list | tuple):
            return [self.refer(a) for a in argument]
        return argument

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        if func._schema.is_mutable and not name.startswith("native_batch_norm"):
            return self._in_place(func, name, args, kwargs)
        lowered = self.refer(args), {k: self.refer(v) for k, v in kwargs.items()}
        result = func(*args, **kwargs)
        written = (func, repr(lowered))
        again = _repeats(func) and written in self.written
        self.repeats |= again
        if not (again and self.once):
            self.written[written] = self._lower(func, name, *lowered, result)
        self._store(result, self.written[written])
        return result

    def _lower(self, func, name, args, kwargs, result) -> Any:
        if name == "detach" and self.functional:
            return args[0]  # functionalize detaches what it wraps: nobody wrote it
        lowering = LOWERINGS.get(name, opaque)
        return lowering(self.program, args, kwargs | {"func": func, "name": name}, result)

    def _store(self, result: Any, ref: Any) -> None:
        if isinstance(result, Tensor):
            self.know(result, ref)
        elif isinstance(result, list | tuple):
            for part, r in zip(result, ref, strict=False):
                if r is not None:
                    self._store(part, r)

    def _in_place(self, func, name, args, kwargs):
        target = kwargs.get("out", args[0])
        if not isinstance(target, Tensor) or target._is_view() or self._has_views(target):
            raise _ChangedView(f"{name} changes a view in place")
        plain = getattr(torch.ops.aten, name.rstrip("_"), None)
        random = name in ("bernoulli_", "uniform_", "normal_", "random_", "exponential_")
        ref = None
        if plain is not None and name.endswith("_") and not random:
            lowered = self.refer(args), {k: self.refer(v) for k, v in kwargs.items()}
            overload = getattr(plain, func._overloadname, None) or plain.default
            value = overload(*args, **kwargs)
            ref = self._lower(overload, name.rstrip("_"), *lowered, value)
        result = func(*args, **kwargs)
        self.know(target, ref or self.program.leaf(target.clone(), "", "captured"))
        return result

    def _has_views(self, target: Tensor) -> bool:
        pointer = target.untyped_storage().data_ptr()
        return any(
            other is not target and other.untyped_storage().data_ptr() == pointer
            for other in self.alive
            if isinstance(other, Tensor) and other.numel()
        )


def _repeats(func) -> bool:
    """Tell whether an operation gives the same again; one that draws, or reads nothing, may not."""
    return torch.Tag.nondeterministic_seeded not in func.tags and any(
        isinstance(a.type, torch.TensorType) for a in func._schema.arguments
    )


class _AsWritten(TorchFunctionMode):
    """Replace the fused attention by the steps of its definition; name what torch runs as another."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        if func is F.instance_norm:  # a batch norm between two views
            self._name("instance_norm", "normalise", result, args[:1])
        return result

    def _name(self, called: str, kind: str, result: Tensor, arguments: tuple) -> None:
        program, known = self.recorder.program, self.recorder.known
        found = known.get(id(result))
        while found is not None and program.steps[found.i].kind != kind:
            found = next(iter(program.steps[found.i].operands()), None)
        if found is not None and all(id(a) in known for a in arguments):
            program.call(found, called, *(known[id(a)] for a in arguments))


def _attention(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **_
) -> Tensor:
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = query @ key.transpose(-2, -1) * scale
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return F.dropout(torch.softmax(scores, -1), dropout_p) @ value


def trace(forward: Callable, inputs: Mapping[str, Any], wrt: str) -> Program:
    """Run `forward(**inputs)` and return it as a program, its last step the output.

    Raises Untraceable where the recorded program does not give the output again.
    """
    try:
        return _traced(forward, inputs, wrt)
    except _ChangedView:
        # As if each write into a part made a new tensor. Slower, and so not done for all.
        return _traced(torch.func.functionalize(forward), inputs, wrt, functional=True)


def _traced(
    forward: Callable,
    inputs: Mapping[str, Any],
    wrt: str,
    functional: bool = False,
    once: bool = False,
) -> Program:
    program = Program()
    recorder = _Recorder(program, functional, once)
    given = {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in inputs.items()}
    for name, value in given.items():
        if isinstance(value, Tensor):
            recorder.know(value, program.leaf(value.clone(), name))
    program.numbers = {k: v for k, v in given.items() if isinstance(v, float)}
    with torch.no_grad(), recorder, _AsWritten(recorder):
        output = forward(**given)
    if isinstance(output, tuple | list):
        output = output[-1]
    if id(output) not in recorder.known:
        raise Untraceable("the output does not come from the inputs")
    program.output = recorder.known[id(output)]
    program.wrt = next(Ref(i) for i, step in enumerate(program.steps) if step.name == wrt)
    if not torch.allclose(program[program.output], output, rtol=1e-5, atol=1e-8, equal_nan=True):
        raise Untraceable("the recorded program gives another output")
    # What is computed twice, as s in s + norm(s), is one value to who differentiates it; but the
    # runs of a loop are found by their likeness.
    if recorder.repeats and not once and not hands_on(loop_of(program)):
        return _traced(forward, inputs, wrt, functional, once=True)
    return program
