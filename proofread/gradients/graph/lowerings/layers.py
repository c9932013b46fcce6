"""Normalisations, dropout, convolution and pooling."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from proofread.gradients.graph.lowerings.core import emit_normalise, lowers, opaque, over, plus
from proofread.gradients.graph.program import Program, Ref

WINDOWS = "the size of each window"


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
        return opaque(p, args, kwargs, result)
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
        x = p.emit("add", plus, x, beta)
    return x


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
    return p.emit("add", plus, out, p.emit("view", lambda b: b.reshape(shape), bias))


@lowers("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _avg_pool(p, args, kwargs, result):
    _, kernel, _, padding, ceil, include, divisor = [*args, *[None] * 7][:7]
    if divisor:
        return opaque(p, args, kwargs, result)
    func, rest = kwargs["func"], args[1:]
    rank = int(kwargs["name"][-2])
    count = math.prod(kernel) if len(kernel) == rank else kernel[0] ** rank
    if ceil or (padding and any(padding) and include is False):
        counts = _entries_of_windows(func, rest, p[args[0]].shape[-rank:], rank)
        summed = p.emit("opaque", lambda x: func(x, *rest) * counts, args[0], called="sum_pool")
        p.call(summed, "avg_pool", args[0])
        sizes = p.leaf(counts, WINDOWS, "captured")
        return p.call(p.emit("div", over, summed, sizes, full=count), "avg_pool", args[0])
    summed = p.emit("opaque", lambda x: func(x, *rest) * count, args[0], called="sum_pool")
    p.call(summed, "avg_pool", args[0])
    return p.call(p.emit("div", over, summed, count), "avg_pool", args[0])


def _entries_of_windows(func, rest, shape, rank: int) -> Tensor:
    """Return the number by which each window of an average pooling divides."""
    ones = torch.ones((1, 1, *shape), dtype=torch.float64)
    kernel, stride, padding, ceil = [*rest, *[None] * 4][:4]
    lift = [1] * (rank == 1)  # PyTorch lets no pooling in one axis divide by 1
    total = (F.avg_pool3d if rank == 3 else F.avg_pool2d)(
        ones.unsqueeze(2) if lift else ones,
        lift + list(kernel),
        lift + list(stride or kernel),
        [0] * len(lift) + list(padding or [0] * rank),
        bool(ceil),
        True,
        divisor_override=1,
    )
    return (total.squeeze(2) if lift else total)[0, 0] / func(ones, *rest)[0, 0]


@lowers("max_pool2d_with_indices", "max_pool3d_with_indices")
def _max_pool(p, args, kwargs, result):
    chosen, lead = result[1], result[1].dim() - len(args[1])

    def pick(x):
        return x.flatten(lead).gather(-1, chosen.flatten(lead)).reshape(chosen.shape)

    ties = _ties_of_pool(p, args, result[0])
    as_average = None if ties is None else _average_of(args[1:], lead)
    last = None if ties is None else _last_windows(p.shape(args[0]), result[0].shape, *args[1:])
    details = {"ties": ties, "as_average": as_average, "last_windows": last}
    return [p.emit("pick", pick, args[0], called="max_pool", **details), None]


def _last_windows(shape, pooled, size, stride=None, padding=None, *settings) -> tuple | None:
    """Return, for each axis, the last window that each place lies in; None where none overlap."""
    rank, stride = len(size), stride or size
    if all(s >= n for s, n in zip(stride, size, strict=True)):
        return None
    last = [torch.arange(n) for n in shape[: len(shape) - rank]]
    for n, m, step, around in zip(
        shape[-rank:], pooled[-rank:], stride, padding or [0] * rank, strict=True
    ):
        last.append(((torch.arange(n) + around) // step).clamp(max=m - 1))
    return torch.meshgrid(*last, indexing="ij")


def _average_of(settings, lead: int) -> Callable[[Tensor], Tensor] | None:
    """Return the average over the same windows; None where average pooling has no such windows."""
    size, stride, padding, dilation = [*settings, *[None] * 3][:4]
    if any(d != 1 for d in dilation or ()):
        return None
    pool = F.avg_pool3d if len(size) == 3 else F.avg_pool2d
    return lambda x: pool(x, size, stride or None, padding or 0)


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
