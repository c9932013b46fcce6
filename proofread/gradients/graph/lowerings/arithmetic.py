"""Sums, products, powers, matrix products, reductions and comparisons."""

from __future__ import annotations

import torch
from torch import Tensor

from proofread.gradients.graph.lowerings.core import (
    axes_of,
    emit_sum,
    emit_variance,
    lowers,
    mean_over,
    minus,
    opaque,
    over,
    plus,
)
from proofread.gradients.graph.program import Ref


@lowers("add", "sub", "rsub")
def _add(p, args, kwargs, result):
    a, b = args[:2]
    kind = "add" if kwargs["name"] == "add" else "sub"
    if kwargs["name"] == "rsub":
        a, b = b, a
    if (alpha := kwargs.get("alpha", 1)) != 1:
        b = p.emit("mul", torch.mul, b, alpha)
    return p.emit(kind, plus if kind == "add" else minus, a, b)


@lowers("mul")
def _mul(p, args, kwargs, result):
    return p.emit("mul", lambda a, b: a * b, *args[:2])


@lowers("div", "true_divide")
def _div(p, args, kwargs, result):
    if kwargs.get("rounding_mode"):
        return opaque(p, args, kwargs, result)
    return p.emit("div", over, *args[:2])


@lowers("neg")
def _neg(p, args, kwargs, result):
    return p.emit("mul", lambda a, b: a * b, args[0], -1)


@lowers("pow", "square", "float_power")
def _pow(p, args, kwargs, result):
    exponent = 2 if kwargs["name"] == "square" else args[1]
    if isinstance(exponent, Ref) or not isinstance(args[0], Ref):
        if kwargs["name"] != "pow":
            return opaque(p, args, kwargs, result)
        return p.call(p.emit("exponential", torch.pow, *args[:2]), "pow", *args[:2])
    return p.emit("pow", lambda x, n: x**n, args[0], exponent)


@lowers("mm", "bmm", "matmul")
def _mm(p, args, kwargs, result):
    return p.emit("mm", torch.matmul, *args[:2])


@lowers("addmm", "baddbmm")
def _addmm(p, args, kwargs, result):
    product = p.emit("mm", torch.matmul, args[1], args[2])
    if (alpha := kwargs.get("alpha", 1)) != 1:
        product = p.emit("mul", torch.mul, product, alpha)
    bias = args[0]
    if (beta := kwargs.get("beta", 1)) != 1:
        bias = p.emit("mul", torch.mul, bias, beta)
    return p.emit("add", plus, product, bias)


@lowers("mv")
def _mv(p, args, kwargs, result):
    column = p.emit("view", lambda v: v.unsqueeze(-1), args[1])
    product = p.emit("mm", torch.matmul, args[0], column)
    return p.emit("view", lambda v: v.squeeze(-1), product)


@lowers("dot", "vdot")
def _dot(p, args, kwargs, result):
    return emit_sum(p, p.emit("mul", lambda a, b: a * b, *args), (0,), False)


@lowers("cumsum")
def _cumsum(p, args, kwargs, result):
    if kwargs.get("dtype") is not None or not result.dim():
        return opaque(p, args, kwargs, result)
    axis = args[1] % result.dim()
    return p.emit("cumsum", lambda x: x.cumsum(axis), args[0], axis=axis, called="cumsum")


@lowers("cumprod")
def _cumprod(p, args, kwargs, result):
    # What is behind a 0 has a gradient too, but not by a division.
    if kwargs.get("dtype") is not None or not result.dim() or (p[args[0]] == 0).any():
        return opaque(p, args, kwargs, result)
    axis = args[1] % result.dim()
    return p.emit("cumprod", lambda x: x.cumprod(axis), args[0], axis=axis, called="cumprod")


@lowers("_cdist_forward")
def _cdist(p, args, kwargs, result):
    a, b, order = args[:3]
    if order != 2:
        return opaque(p, args, kwargs, result)
    rows = p.emit("view", lambda v: v.unsqueeze(-2), a)
    columns = p.emit("view", lambda v: v.unsqueeze(-3), b)
    squares = p.emit("pow", lambda x, n: x**n, p.emit("sub", minus, rows, columns), 2)
    axis = p[squares].dim() - 1
    summed = emit_sum(p, squares, (axis,), False)
    return p.call(p.emit("unary", torch.sqrt, summed, called="sqrt"), "cdist", a, b)


@lowers("sum", "mean", "var", "std", "amax", "amin", "logsumexp")
def _reduce(p, args, kwargs, result):
    x, name = args[0], kwargs["name"]
    rank = p[x].dim()
    axes = axes_of(args[1] if len(args) > 1 else kwargs.get("dim"), rank)
    keep = bool(args[2] if len(args) > 2 else kwargs.get("keepdim", False))
    if p[x].dtype in (torch.bool, torch.int64):
        return opaque(p, args, kwargs, result)
    if name == "sum":
        return emit_sum(p, x, axes, keep)
    if name == "mean":
        return p.emit("mean", mean_over(axes, keep), x, axes=axes, keep=keep)
    if name in ("var", "std"):
        correction = kwargs.get("correction")
        correction = 1 if correction is None else correction
        variance = emit_variance(p, x, axes, keep, correction)
        if name == "var":
            return variance
        return p.call(p.emit("unary", torch.sqrt, variance, called="sqrt"), "std", x)
    if name == "logsumexp":
        return p.emit(
            "logsumexp", lambda v: torch.logsumexp(v, axes, keep), x, axes=axes, keep=keep
        )
    function = torch.amax if name == "amax" else torch.amin
    return p.emit(
        "extreme", lambda v: function(v, axes, keep), x, axes=axes, keep=keep, called=name[1:]
    )


@lowers("var_mean")
def _var_mean(p, args, kwargs, result):
    axes = axes_of(args[1] if len(args) > 1 else kwargs.get("dim"), p[args[0]].dim())
    keep = bool(kwargs.get("keepdim", False))
    correction = kwargs.get("correction")
    variance = emit_variance(p, args[0], axes, keep, 1 if correction is None else correction)
    return [variance, p.emit("mean", mean_over(axes, keep), args[0], axes=axes, keep=keep)]


@lowers("max", "min")
def _max(p, args, kwargs, result):
    func = kwargs["func"]
    if isinstance(result, Tensor):
        axes = tuple(range(p[args[0]].dim())) if len(args) == 1 else None
        if axes is None:
            return opaque(p, args, kwargs, result)
        return p.emit(
            "extreme", lambda v: func(v), args[0], axes=axes, keep=False, called=kwargs["name"]
        )
    axes = axes_of(args[1], p[args[0]].dim())
    keep = bool(args[2]) if len(args) > 2 else False
    index = p.emit("opaque", lambda v: func(v, *args[1:])[1], args[0], called="argmax")
    largest = p.emit(
        "extreme",
        lambda v: func(v, *args[1:])[0],
        args[0],
        axes=axes,
        keep=keep,
        called=kwargs["name"],
    )
    return [largest, index]


@lowers("linalg_vector_norm")
def _vector_norm(p, args, kwargs, result):
    order = args[1] if len(args) > 1 else 2
    if order != 2:
        return opaque(p, args, kwargs, result)
    axes = axes_of(args[2] if len(args) > 2 else None, p[args[0]].dim())
    keep = bool(args[3]) if len(args) > 3 else False
    squares = p.emit("pow", lambda x, n: x**n, args[0], 2)
    root = p.emit("unary", torch.sqrt, emit_sum(p, squares, axes, keep), called="sqrt")
    return p.call(root, "norm", args[0])


@lowers("where")
def _where(p, args, kwargs, result):
    if len(args) < 3:
        return opaque(p, args, kwargs, result)
    return p.emit("where", torch.where, *args[:3], called="where")


@lowers("masked_fill")
def _masked_fill(p, args, kwargs, result):
    fill = args[2]
    filled = p.emit("where", lambda m, f, x: torch.where(m, f, x), args[1], fill, args[0])
    return p.call(filled, "masked_fill", args[0], args[1])


@lowers("tril", "triu")
def _triangle(p, args, kwargs, result):
    x = args[0]
    if not p.steps[x.i].operands() and not p.steps[x.i].name:  # of torch.ones, torch.full
        return p.leaf(result.clone(), f"{kwargs['name']}(...)", "captured")
    ones = torch.ones(p.shape(x))
    mask = getattr(torch, kwargs["name"])(ones, *args[1:]).bool()
    mask = p.leaf(mask, f"{kwargs['name']} mask", "captured")
    return p.call(p.emit("mul", lambda a, b: a * b, x, mask), kwargs["name"], x)


@lowers("gt", "ge", "lt", "le", "eq", "ne", "logical_not", "bitwise_not", "logical_and")
def _condition(p, args, kwargs, result):
    func = kwargs["func"]
    return p.emit("condition", lambda *a: func(*a), *args, called=kwargs["name"])


@lowers("maximum", "minimum")
def _maximum(p, args, kwargs, result):
    first = p.emit(
        "condition",
        (lambda a, b: a >= b) if kwargs["name"] == "maximum" else (lambda a, b: a <= b),
        *args,
        called="ge" if kwargs["name"] == "maximum" else "le",
    )
    where = p.emit("where", torch.where, first, *args, called=kwargs["name"])
    return p.call(where, kwargs["name"], *args)
