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

from proofread.gradients.program import Program, Ref
from proofread.gradients.unary import UNARY

ALIASES = {
    "alias",
    "detach",
    "clone",
    "contiguous",
    "lift_fresh",
    "_to_copy",
    "lift_fresh_copy",
}
VIEWS = {"view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "flatten"}
PICKS = {
    "slice",
    "select",
    "index",
    "gather",
    "embedding",
    "index_select",
    "unfold",
    "repeat",
    "flip",
    "roll",
    "diagonal",
    "narrow",
    "take_along_dim",
    "expand",
    "take",
}
Lowering = Callable[[Program, tuple, dict, Any], Any]
LOWERINGS: dict[str, Lowering] = {}


class Untraceable(Exception):
    """The forward does something that cannot be recorded."""


class _ChangedView(Untraceable):
    """The forward writes into a part of a tensor, such as `y[:, 0] *= 2`."""


class _Recorder(TorchDispatchMode):
    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        self.known: dict[int, Ref] = {}
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
        self._store(result, self._lower(func, name, *lowered, result))
        return result

    def _lower(self, func, name, args, kwargs, result) -> Any:
        lowering = LOWERINGS.get(name, _opaque)
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


class _PlainAttention(TorchFunctionMode):
    """Replace the fused attention by the steps of its definition."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


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
        return _traced(torch.func.functionalize(forward), inputs, wrt)


def _traced(forward: Callable, inputs: Mapping[str, Any], wrt: str) -> Program:
    program = Program()
    recorder = _Recorder(program)
    given = {k: v.detach().clone() if isinstance(v, Tensor) else v for k, v in inputs.items()}
    for name, value in given.items():
        if isinstance(value, Tensor):
            recorder.know(value, program.leaf(value.clone(), name))
    program.numbers = {k: v for k, v in given.items() if isinstance(v, float)}
    with torch.no_grad(), recorder, _PlainAttention():
        output = forward(**given)
    if isinstance(output, tuple | list):
        output = output[-1]
    if id(output) not in recorder.known:
        raise Untraceable("the output does not come from the inputs")
    program.output = recorder.known[id(output)]
    program.wrt = next(Ref(i) for i, step in enumerate(program.steps) if step.name == wrt)
    if not torch.allclose(program[program.output], output, rtol=1e-5, atol=1e-8, equal_nan=True):
        raise Untraceable("the recorded program gives another output")
    return program


def lowers(*names: str) -> Callable[[Lowering], Lowering]:
    def register(lowering: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(names, lowering))
        return lowering

    return register


def _opaque(p: Program, args, kwargs, result) -> Any:
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


@lowers(*ALIASES)
def _alias(p, args, kwargs, result):
    source = args[0]
    if kwargs["name"] == "_to_copy" and p[source].dtype != result.dtype:
        return p.emit("cast", lambda x, d=result.dtype: x.to(d), source)
    return source


@lowers(*VIEWS)
def _view(p, args, kwargs, result):
    if p.shape(args[0]) == tuple(result.shape):
        return args[0]
    return p.emit("view", lambda x, s=tuple(result.shape): x.reshape(s), args[0])


@lowers("t", "transpose", "permute", "numpy_T", "mT")
def _permute(p, args, kwargs, result):
    order = torch.empty([10 + i for i in range(p[args[0]].dim())], device="meta")
    order = [s - 10 for s in kwargs["func"](order, *args[1:]).shape]
    if order == sorted(order):
        return args[0]
    return p.emit("permute", lambda x, o=tuple(order): x.permute(o), args[0], order=tuple(order))


@lowers(*PICKS)
def _pick(p, args, kwargs, result):
    if kwargs["name"] == "expand" and p.shape(args[0]) == tuple(result.shape):
        return args[0]
    func = kwargs["func"]
    if kwargs["name"] == "expand":
        shape = tuple(result.shape)
        return p.emit("expand", lambda x: x.expand(shape), args[0])
    if kwargs["name"] == "embedding":
        padding = args[2] if len(args) > 2 else kwargs.get("padding_idx", -1)
        if padding >= 0:
            counts = torch.ones(p.shape(args[0])[0], 1, dtype=p[args[0]].dtype)
            counts[padding] = 0
            counts = p.leaf(counts, "the rows that are not padding", "captured")
            table = p.emit("unpadded", lambda x, _: x, args[0], counts, called="embedding")
            p.call(table, "embedding", args[0])
            picked = p.emit("pick", lambda x, i: x[i], table, args[1], called="embedding")
            return p.call(picked, "embedding", args[0], args[1])
        return p.emit("pick", lambda x, i: x[i], args[0], args[1], called="embedding")
    return p.emit("pick", func, *args, called=kwargs["name"])


@lowers("split", "split_with_sizes", "unbind", "chunk")
def _split(p, args, kwargs, result):
    func = kwargs["func"]
    return [
        p.emit("pick", lambda *a, k=k: func(*a)[k], *args, called=kwargs["name"])
        for k in range(len(result))
    ]


@lowers("add", "sub", "rsub")
def _add(p, args, kwargs, result):
    a, b = args[:2]
    kind = "add" if kwargs["name"] == "add" else "sub"
    if kwargs["name"] == "rsub":
        a, b = b, a
    if (alpha := kwargs.get("alpha", 1)) != 1:
        b = p.emit("mul", torch.mul, b, alpha)
    return p.emit(kind, _plus if kind == "add" else _minus, a, b)


def _plus(a, b):
    return a + b


def _minus(a, b):
    return a - b


def _over(a, b):
    return a / b


@lowers("mul")
def _mul(p, args, kwargs, result):
    return p.emit("mul", lambda a, b: a * b, *args[:2])


@lowers("div", "true_divide")
def _div(p, args, kwargs, result):
    if kwargs.get("rounding_mode"):
        return _opaque(p, args, kwargs, result)
    return p.emit("div", _over, *args[:2])


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
    return p.emit("add", _plus, product, bias)


@lowers("mv")
def _mv(p, args, kwargs, result):
    column = p.emit("view", lambda v: v.unsqueeze(-1), args[1])
    product = p.emit("mm", torch.matmul, args[0], column)
    return p.emit("view", lambda v: v.squeeze(-1), product)


@lowers("dot", "vdot")
def _dot(p, args, kwargs, result):
    return emit_sum(p, p.emit("mul", lambda a, b: a * b, *args), (0,), False)


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


@lowers("sum", "mean", "var", "std", "amax", "amin", "logsumexp")
def _reduce(p, args, kwargs, result):
    x, name = args[0], kwargs["name"]
    rank = p[x].dim()
    axes = axes_of(args[1] if len(args) > 1 else kwargs.get("dim"), rank)
    keep = bool(args[2] if len(args) > 2 else kwargs.get("keepdim", False))
    if p[x].dtype in (torch.bool, torch.int64):
        return _opaque(p, args, kwargs, result)
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


def emit_variance(p, x, axes, keep, correction) -> Ref:
    def variance(v):
        return v.var(axes, correction=correction, keepdim=keep)

    return p.emit("var", variance, x, axes=axes, keep=keep, correction=correction)


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
            return _opaque(p, args, kwargs, result)
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


@lowers("pow", "square", "float_power")
def _pow(p, args, kwargs, result):
    exponent = 2 if kwargs["name"] == "square" else args[1]
    if isinstance(exponent, Ref) or not isinstance(args[0], Ref):
        return _opaque(p, args, kwargs, result)
    return p.emit("pow", lambda x, n: x**n, args[0], exponent)


@lowers("neg")
def _neg(p, args, kwargs, result):
    return p.emit("mul", lambda a, b: a * b, args[0], -1)


@lowers("_softmax", "_log_softmax", "_safe_softmax")
def _softmax(p, args, kwargs, result):
    kind = "log_softmax" if "log" in kwargs["name"] else "softmax"
    axis = args[1] % p[args[0]].dim()
    return emit_softmax(p, kind, args[0], axis)


def emit_softmax(p: Program, kind: str, x: Ref, axis: int) -> Ref:
    function = torch.softmax if kind == "softmax" else torch.log_softmax
    return p.emit(kind, lambda v: function(v, axis), x, axis=axis)


@lowers("where")
def _where(p, args, kwargs, result):
    if len(args) < 3:
        return _opaque(p, args, kwargs, result)
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


@lowers("cat")
def _cat(p, args, kwargs, result):
    axis = args[1] if len(args) > 1 else kwargs.get("dim", 0)
    parts = args[0]
    return p.emit("cat", lambda *xs: torch.cat(xs, axis), *parts, axis=axis)


@lowers("stack")
def _stack(p, args, kwargs, result):
    axis = args[1] if len(args) > 1 else kwargs.get("dim", 0)
    axis %= result.dim()
    parts = [p.emit("view", lambda x: x.unsqueeze(axis), part) for part in args[0]]
    stacked = p.emit("cat", lambda *xs: torch.cat(xs, axis), *parts, axis=axis)
    return p.call(stacked, "stack", *parts)


@lowers("copy")
def _copy(p, args, kwargs, result):
    source = args[1]
    if p.shape(source) == tuple(result.shape):
        return source
    return p.emit("expand", lambda x, s=tuple(result.shape): x.expand(s), source)


@lowers("slice_scatter", "select_scatter", "diagonal_scatter", "index_put")
def _write(p, args, kwargs, result):
    """A part of a tensor is written: what stays of it, and what is put into its place."""
    func, x = kwargs["func"], args[0]
    part, rest = (args[2], (args[1], args[3:])) if "put" in kwargs["name"] else (args[1], args[2:])

    def write(into, values):
        if "put" not in kwargs["name"]:
            return func(into, values, *rest)
        indices, settings = rest
        indices = [p[i] if isinstance(i, Ref) else i for i in indices]
        return func(into, indices, values, *settings)

    shape, dtype = tuple(result.shape), result.dtype
    placed = p.emit(
        "opaque",
        lambda v: write(torch.zeros(shape, dtype=dtype), v.to(dtype)),
        part,
        called="write",
    )
    adds_up = "put" in kwargs["name"] and bool(rest[1] and rest[1][0])
    if adds_up:
        return p.emit("add", _plus, x, placed)
    stays = write(torch.ones(shape, dtype=dtype), torch.zeros_like(p[part], dtype=dtype))
    fresh = not p.steps[x.i].operands() and p.steps[x.i].kind != "leaf"  # torch.empty, torch.zeros
    if fresh and not (p[x] * stays).nan_to_num().any():
        return placed
    stays = p.leaf(stays, "what is not written", "captured")
    kept = p.emit("mul", lambda a, b: a.nan_to_num() * b, x, stays)
    return p.emit("add", _plus, kept, placed)


@lowers("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(p, args, kwargs, result):
    _, kernel, _, padding, ceil, include, divisor = [*args, *[None] * 7][:7]
    if ceil or divisor or (padding and any(padding) and include is False):
        return _opaque(p, args, kwargs, result)  # the count differs from window to window
    func, rest = kwargs["func"], args[1:]
    rank = int(kwargs["name"][-2])
    count = math.prod(kernel) if len(kernel) == rank else kernel[0] ** rank
    summed = p.emit("opaque", lambda x: func(x, *rest) * count, args[0], called="sum_pool")
    p.call(summed, "avg_pool", args[0])
    return p.call(p.emit("div", _over, summed, count), "avg_pool", args[0])


@lowers("constant_pad_nd")
def _pad(p, args, kwargs, result):
    func = kwargs["func"]
    return p.emit("opaque", lambda x: func(x, *args[1:]), args[0], called="pad")


@lowers("linalg_vector_norm")
def _vector_norm(p, args, kwargs, result):
    order = args[1] if len(args) > 1 else 2
    if order != 2:
        return _opaque(p, args, kwargs, result)
    axes = axes_of(args[2] if len(args) > 2 else None, p[args[0]].dim())
    keep = bool(args[3]) if len(args) > 3 else False
    squares = p.emit("pow", lambda x, n: x**n, args[0], 2)
    root = p.emit("unary", torch.sqrt, emit_sum(p, squares, axes, keep), called="sqrt")
    return p.call(root, "norm", args[0])


@lowers("native_layer_norm")
def _layer_norm(p, args, kwargs, result):
    x, shape, gamma, beta, eps = args
    rank = p[x].dim()
    axes = tuple(range(rank - len(shape), rank))
    normalised = p.call(emit_normalise(p, x, axes, eps), "layer_norm", x)
    return [_affine(p, normalised, gamma, beta), None, None]


@lowers("native_group_norm")
def _group_norm(p, args, kwargs, result):
    x, gamma, beta, n, _, _, groups, eps = args
    shape = p.shape(x)
    # The axes of a group stay apart, because a wrong average may run over some of them.
    apart = (n, groups, shape[1] // groups, *shape[2:])
    grouped = p.emit("view", lambda v: v.reshape(apart), x)
    scaled = emit_normalise(p, grouped, tuple(range(2, len(apart))), eps)
    normalised = p.call(scaled, "group_norm", x)
    normalised = p.emit("view", lambda v: v.reshape(shape), normalised)
    return [_per_channel(p, normalised, gamma, beta), None, None]


@lowers("native_batch_norm", "_native_batch_norm_legit", "cudnn_batch_norm")
def _batch_norm(p, args, kwargs, result):
    x, gamma, beta, mean, var, training = args[:6]
    if not isinstance(mean, Ref | None) or not isinstance(training, bool):
        return _opaque(p, args, kwargs, result)
    eps = args[7]
    rank = p[x].dim()
    if training:
        normalised = emit_normalise(p, x, tuple(a for a in range(rank) if a != 1), eps)
    else:
        shape = [-1] + [1] * (rank - 2)
        mean, var = (p.emit("view", lambda v: v.reshape(shape), v) for v in (mean, var))
        normalised = p.emit(
            "standardise",
            lambda v, m, s: (v - m) * torch.rsqrt(s + eps),
            *(x, mean, var),
            axes=tuple(a for a in range(rank) if a != 1),
            eps=eps,
        )
    p.call(normalised, "batch_norm", x, *(() if training else (mean, var)))
    return [_per_channel(p, normalised, gamma, beta), None, None]


def emit_normalise(p: Program, x: Ref, axes: tuple[int, ...], eps: float) -> Ref:
    def normalise(v):
        centred = v - v.mean(axes, keepdim=True)
        return centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + eps)

    return p.emit("normalise", normalise, x, axes=axes, centre=True, eps=eps)


def _per_channel(p, normalised, gamma, beta):
    trailing = [1] * (p[normalised].dim() - 2)
    gamma, beta = (
        p.emit("view", lambda v: v.reshape(-1, *trailing), v) if v is not None and trailing else v
        for v in (gamma, beta)
    )
    return _affine(p, normalised, gamma, beta)


def _affine(p, x, gamma, beta):
    if gamma is not None:
        x = p.emit("mul", lambda a, b: a * b, x, gamma)
    if beta is not None:
        x = p.emit("add", _plus, x, beta)
    return x


def _averaged(p: Program, losses: Ref, reduction: int) -> Ref:
    axes = tuple(range(p[losses].dim()))
    if reduction == 1:
        return p.emit("mean", mean_over(axes, False), losses, axes=axes, keep=False)
    return emit_sum(p, losses, axes, False) if reduction == 2 else losses


@lowers("mse_loss")
def _mse_loss(p, args, kwargs, result):
    difference = p.emit("sub", _minus, *args[:2])
    squares = p.emit("pow", lambda x, n: x**n, difference, 2)
    return _averaged(p, squares, args[2] if len(args) > 2 else 1)


@lowers("binary_cross_entropy_with_logits")
def _bce_with_logits(p, args, kwargs, result):
    weighted = any(a is not None for a in args[2:4])
    if weighted:
        return _opaque(p, args, kwargs, result)
    return _averaged(p, emit_bce(p, args[0], args[1]), args[4] if len(args) > 4 else 1)


def emit_bce(p: Program, logits: Ref, targets: Ref) -> Ref:
    return p.emit(
        "bce",
        lambda z, y: F.binary_cross_entropy_with_logits(z, y.to(z), reduction="none"),
        logits,
        targets,
        called="binary_cross_entropy_with_logits",
    )


@lowers("binary_cross_entropy")
def _bce(p, args, kwargs, result):
    if len(args) > 2 and args[2] is not None:
        return _opaque(p, args, kwargs, result)
    losses = p.emit(
        "bce_probability",
        lambda q, y: F.binary_cross_entropy(q, y, reduction="none"),
        *args[:2],
        called="binary_cross_entropy",
    )
    return _averaged(p, losses, args[3] if len(args) > 3 else 1)


@lowers("smooth_l1_loss", "huber_loss")
def _huber(p, args, kwargs, result):
    func = kwargs["func"]
    rest = args[3:]
    if rest and rest[0] != 1:
        losses = p.emit(
            "opaque", lambda a, b: func(a, b, 0, *rest), *args[:2], called=kwargs["name"]
        )
    else:
        difference = p.emit("sub", _minus, *args[:2])
        losses = p.emit("unary", UNARY["huber"].function, difference, called="huber")
        p.call(losses, kwargs["name"], *args[:2])
    return _averaged(p, losses, args[2] if len(args) > 2 else 1)


@lowers("nll_loss_forward", "nll_loss2d_forward", "nll_loss_nd")
def _nll(p, args, kwargs, result):
    log_p, targets, weight, reduction, ignored = args
    if p[log_p].dim() != 2:
        return _opaque(p, args, kwargs, result)
    picked = p.emit(
        "pick",
        lambda x, t: x.gather(1, t.clamp_min(0)[:, None])[:, 0],
        log_p,
        targets,
        called="target",
    )
    loss = ("nll_loss", log_p, targets)
    if p.steps[log_p.i].kind == "log_softmax":
        loss = ("cross_entropy", *p.steps[log_p.i].operands(), targets)
    losses = p.call(p.emit("mul", lambda a, b: a * b, picked, -1), *loss)
    counted = None
    if weight is not None:
        counted = p.emit("pick", lambda w, t: w[t.clamp_min(0)], weight, targets, called="weight")
    if bool((p[targets] == ignored).any()):
        if counted is not None:
            return _opaque(p, args, kwargs, result)
        valid = (p[targets] != ignored).to(p[log_p])
        counted = p.leaf(valid, "the targets that count", "captured")
    if counted is None:
        return [p.call(_averaged(p, losses, reduction), *loss), None]
    losses = p.call(p.emit("mul", lambda a, b: a * b, losses, counted), *loss)
    if reduction == 0:
        return [losses, None]
    summed = p.call(emit_sum(p, losses, (0,), False), *loss)
    if reduction == 1:
        summed = p.emit("div", _over, summed, emit_sum(p, counted, (0,), False))
    return [p.call(summed, *loss), None]


@lowers("native_dropout")
def _dropout(p, args, kwargs, result):
    scale = 1 / (1 - args[1])
    mask = p.leaf(result[1], "mask", "captured")
    masked = p.emit("mul", lambda a, b: a * b, args[0], mask)
    p.call(masked, "dropout", args[0])
    return [p.call(p.emit("mul", lambda a, b: a * b, masked, scale), "dropout", args[0]), mask]


@lowers("convolution")
def _convolution(p, args, kwargs, result):
    x, w, bias, stride, padding, dilation, transposed, _, groups = args

    def convolve(x, w):
        return torch.convolution(x, w, None, stride, padding, dilation, transposed, args[7], groups)

    out = p.emit(
        "conv_transpose" if transposed else "conv",
        convolve,
        x,
        w,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        called=f"conv{'_transpose' * transposed}{len(stride)}d",
    )
    if bias is None:
        return out
    shape = [-1] + [1] * len(stride)
    return p.emit("add", _plus, out, p.emit("view", lambda b: b.reshape(shape), bias))


@lowers("max_pool2d_with_indices", "max_pool3d_with_indices")
def _max_pool(p, args, kwargs, result):
    chosen, lead = result[1], result[1].dim() - len(args[1])

    def pick(x):
        return x.flatten(lead).gather(-1, chosen.flatten(lead)).reshape(chosen.shape)

    out = p.emit("pick", pick, args[0], called="max_pool", ties=_ties_of_pool(p, args, result[0]))
    return [out, None]


def _ties_of_pool(p: Program, args, largest: Tensor) -> Tensor | None:
    """Mark every entry that shares the largest value of a window with another entry."""
    x = p[args[0]]
    rank = len(args[1])
    stride, padding, dilation, ceil = [*args[2:], *[None] * 4][:4]
    if ceil:
        return None
    settings = zip(
        args[1], stride or args[1], padding or [0] * rank, dilation or [1] * rank, strict=True
    )
    numbers = torch.arange(x.numel()).reshape(x.shape)
    values, places = x.to(torch.float64), numbers.to(torch.float64)
    for axis, (size, step, around, apart) in enumerate(settings, x.dim() - rank):
        pad = [0, 0] * (values.dim() - 1 - axis) + [around, around]
        reach = apart * (size - 1) + 1
        values = F.pad(values, pad, value=-math.inf).unfold(axis, reach, step)[..., ::apart]
        places = F.pad(places, pad, value=-1).unfold(axis, reach, step)[..., ::apart]
    hits = values == largest.reshape(*largest.shape, *[1] * rank)
    tied = hits & (hits.sum(tuple(range(-rank, 0)), keepdim=True) > 1)
    marked = torch.zeros(x.numel(), dtype=torch.bool)
    marked[places[tied].long()] = True
    return marked.reshape(x.shape)


@lowers("gelu")
def _gelu(p, args, kwargs, result):
    name = "gelu_tanh" if kwargs.get("approximate") == "tanh" else "gelu"
    return p.emit("unary", UNARY[name].function, args[0], called=name)


@lowers(
    "relu",
    "sigmoid",
    "tanh",
    "exp",
    "log",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "silu",
    "erf",
    "abs",
    "sin",
    "cos",
    "log1p",
    "expm1",
    "log_sigmoid_forward",
    "hardtanh",
    "relu6",
    "log2",
    "hardswish",
    "softplus",
    "leaky_relu",
    "elu",
    "clamp",
    "clamp_min",
    "clamp_max",
    "sgn",
    "sign",
    "mish",
    "atan",
)
def _unary(p, args, kwargs, result):
    name = kwargs["name"]
    settings = list(args[1:]) + [v for k, v in kwargs.items() if k not in ("func", "name")]
    if any(isinstance(s, Ref) for s in settings):
        return _opaque(p, args, kwargs, result)
    if name.startswith("clamp"):
        settings = [None, *settings] if name == "clamp_max" else [*settings, None]
        low, high = settings[:2]
        if low == 0 and high is None:
            name, settings = "relu", []
        elif low is None or high is None:
            bound = high if low is None else low
            beyond = p.emit("condition", torch.gt if low is None else torch.lt, args[0], bound)
            p.call(beyond, "gt" if low is None else "lt", args[0], bound)
            clamped = p.emit("where", torch.where, beyond, bound, args[0], called="clamp")
            return p.call(clamped, "clamp", args[0])
    if name == "log_sigmoid_forward":
        return [p.emit("unary", F.logsigmoid, args[0], called="logsigmoid"), None]
    if name == "softplus" and settings in ([], [1], [1, 20], [1.0, 20.0]):
        settings = []
    if name == "leaky_relu":
        slope = settings[0] if settings else 0.01
        where = p.emit("where", torch.where, *_leaky_parts(p, args[0], slope), called="leaky_relu")
        return p.call(where, "leaky_relu", args[0])
    if name == "elu" and settings in ([], [1], [1.0]):
        settings = []
    if name not in UNARY or settings:
        return _opaque(p, args, kwargs, result)
    return p.emit("unary", UNARY[name].function, args[0], called=name)


def _leaky_parts(p: Program, x: Ref, slope: float) -> tuple[Ref, Ref, Ref]:
    positive = p.call(p.emit("condition", lambda v: v > 0, x), "gt", x, 0)
    return positive, x, p.emit("mul", lambda a, b: a * b, x, slope)


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


def is_count(divisor: Any, sizes: set[int]) -> bool:
    """Tell whether a number of the forward is a product of one or two axis sizes."""
    if isinstance(divisor, bool) or not isinstance(divisor, int | float) or divisor < 3:
        return False
    products = sizes | {a * b for a in sizes for b in sizes} | {math.prod(sizes)}
    return float(divisor).is_integer() and int(divisor) in products
