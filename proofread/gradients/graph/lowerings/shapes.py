"""Views, parts, copies and writes: the same numbers in other places."""

from __future__ import annotations

import torch

from proofread.gradients.graph.lowerings.core import lowers, plus
from proofread.gradients.graph.program import Ref

ALIASES = {
    "alias",
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
    "upsample_nearest1d",
    "upsample_nearest2d",
}


@lowers(*ALIASES)
def _alias(p, args, kwargs, result):
    source = args[0]
    if kwargs["name"] == "_to_copy" and p[source].dtype != result.dtype:
        return p.emit("cast", lambda x, d=result.dtype: x.to(d), source)
    return source


@lowers("detach")
def _detach(p, args, kwargs, result):
    if not p.steps[args[0].i].operands() and not p.steps[args[0].i].name:
        return args[0]  # a constant that torch has made
    stopped = p.emit("stopped", lambda x: x.detach(), args[0])
    return p.call(stopped, "detach", args[0])


@lowers(*VIEWS)
def _view(p, args, kwargs, result):
    if p.shape(args[0]) == tuple(result.shape):
        return args[0]
    axis = args[1] % result.dim() if kwargs["name"] == "unsqueeze" else None
    return p.emit("view", lambda x, s=tuple(result.shape): x.reshape(s), args[0], new_axis=axis)


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
        p.emit("pick", lambda *a, k=k: func(*a)[k], *args, called=kwargs["name"], part=k)
        for k in range(len(result))
    ]


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
        return p.emit("add", plus, x, placed)
    stays = write(torch.ones(shape, dtype=dtype), torch.zeros_like(p[part], dtype=dtype))
    fresh = not p.steps[x.i].operands() and p.steps[x.i].kind != "leaf"  # torch.empty, torch.zeros
    if fresh and not (p[x] * stays).nan_to_num().any():
        return placed
    stays = p.leaf(stays, "what is not written", "captured")
    kept = p.emit("mul", lambda a, b: a.nan_to_num() * b, x, stays)
    return p.emit("add", plus, kept, placed)


@lowers("reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d")
def _mirrored(p, args, kwargs, result):
    func, ends = kwargs["func"], args[1]
    sides = [(ends[k], ends[k + 1]) for k in range(0, len(ends), 2)][::-1]
    inner = tuple(
        slice(a, n - b) for (a, b), n in zip(sides, result.shape[-len(sides) :], strict=True)
    )
    return p.emit("pick", func, args[0], args[1], called="pad", inner=(..., *inner))


@lowers("constant_pad_nd")
def _pad(p, args, kwargs, result):
    func = kwargs["func"]
    return p.emit("opaque", lambda x: func(x, *args[1:]), args[0], called="pad")
