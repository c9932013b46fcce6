"""What the lowerings share: their register, and the steps that several of them emit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from proofread.gradients.graph.program import Program, Ref

Lowering = Callable[[Program, tuple, dict, Any], Any]

LOWERINGS: dict[str, Lowering] = {}


def lowers(*names: str) -> Callable[[Lowering], Lowering]:
    def register(lowering: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(names, lowering))
        return lowering

    return register


def opaque(p: Program, args, kwargs, result) -> Any:
    func = kwargs.pop("func")
    name = kwargs.pop("name")
    keywords = {k: v for k, v in kwargs.items() if not isinstance(v, Ref)}
    if isinstance(result, Tensor):
        return p.emit("opaque", lambda *a: func(*a, **keywords), *args, called=name)
    if isinstance(result, list | tuple):
        return [
            p.emit("opaque", lambda *a, k=k: func(*a, **keywords)[k], *args, called=name)
            if isinstance(part, Tensor)
            else None
            for k, part in enumerate(result)
        ]
    return result


def plus(a, b):
    return a + b


def minus(a, b):
    return a - b


def over(a, b):
    return a / b


def axes_of(dim, rank: int) -> tuple[int, ...]:
    """Return reduced axes as non-negative numbers; None or () means all."""
    if dim is None or dim == [] or dim == ():
        return tuple(range(rank))
    dim = [dim] if isinstance(dim, int) else dim
    return tuple(sorted(d % rank for d in dim)) if rank else ()


def emit_sum(p: Program, x: Ref, axes: tuple[int, ...], keep: bool, **extra) -> Ref:
    return p.emit("sum", sum_over(axes, keep), x, axes=axes, keep=keep, **extra)


def sum_over(axes: tuple[int, ...], keep: bool) -> Callable[[Tensor], Tensor]:
    return lambda x: x.sum(axes, keepdim=keep) if axes else x


def mean_over(axes: tuple[int, ...], keep: bool) -> Callable[[Tensor], Tensor]:
    return lambda x: x.mean(axes, keepdim=keep) if axes else x


def emit_variance(p, x, axes, keep, correction) -> Ref:
    def variance(v):
        return v.var(axes, correction=correction, keepdim=keep)

    return p.emit("var", variance, x, axes=axes, keep=keep, correction=correction)


def emit_normalise(p: Program, x: Ref, axes: tuple[int, ...], eps: float) -> Ref:
    def normalise(v):
        centred = v - v.mean(axes, keepdim=True)
        return centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + eps)

    return p.emit("normalise", normalise, x, axes=axes, centre=True, eps=eps)


def emit_softmax(p: Program, kind: str, x: Ref, axis: int) -> Ref:
    function = torch.softmax if kind == "softmax" else torch.log_softmax
    return p.emit(kind, lambda v: function(v, axis), x, axis=axis)


def emit_bce(p: Program, logits: Ref, targets: Ref) -> Ref:
    return p.emit(
        "bce",
        lambda z, y: F.binary_cross_entropy_with_logits(z, y.to(z), reduction="none"),
        logits,
        targets,
        called="binary_cross_entropy_with_logits",
    )


def is_count(divisor: Any, sizes: set[int]) -> bool:
    """Tell whether a number of the forward is a product of one or two axis sizes."""
    if isinstance(divisor, bool) or not isinstance(divisor, int | float) or divisor < 3:
        return False
    products = sizes | {a * b for a in sizes for b in sizes} | {math.prod(sizes)}
    return float(divisor).is_integer() and int(divisor) in products
