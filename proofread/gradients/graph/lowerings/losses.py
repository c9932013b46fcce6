"""Losses, as the entries that they average."""

from __future__ import annotations

import torch.nn.functional as F

from proofread.gradients.graph import families
from proofread.gradients.graph.lowerings.core import (
    emit_bce,
    emit_sum,
    lowers,
    mean_over,
    minus,
    opaque,
    over,
    plus,
)
from proofread.gradients.graph.program import Program, Ref


def _averaged(p: Program, losses: Ref, reduction: int) -> Ref:
    axes = tuple(range(p[losses].dim()))
    if reduction == 1:
        return p.emit("mean", mean_over(axes, False), losses, axes=axes, keep=False)
    return emit_sum(p, losses, axes, False) if reduction == 2 else losses


@lowers("mse_loss")
def _mse_loss(p, args, kwargs, result):
    difference = p.emit("sub", minus, *args[:2])
    squares = p.emit("pow", lambda x, n: x**n, difference, 2)
    return _averaged(p, squares, args[2] if len(args) > 2 else 1)


@lowers("binary_cross_entropy_with_logits")
def _bce_with_logits(p, args, kwargs, result):
    logits, targets, weight, of_ones, reduction, *_ = (*args, *(None,) * 3)
    if of_ones is None:
        losses = emit_bce(p, logits, targets)
    else:
        losses = _weighted_ones(p, logits, targets, of_ones)
        p.call(losses, kwargs["name"], logits, targets)
    if weight is not None:
        losses = p.emit("mul", lambda a, b: a * b, losses, weight)
    return _averaged(p, losses, 1 if reduction is None else reduction)


def _weighted_ones(p: Program, logits: Ref, targets: Ref, weight: Ref) -> Ref:
    """Emit -(w * y * log(sigmoid(z)) + (1 - y) * log(sigmoid(-z))): targets of 1 count w times."""
    times = lambda a, b: a * b
    turned = p.emit("mul", times, logits, -1)
    of_ones, of_zeros = (
        p.emit("unary", F.logsigmoid, z, called="logsigmoid") for z in (logits, turned)
    )
    ones = p.emit("mul", times, targets, weight)
    zeros = p.emit("sub", minus, 1, targets)
    both = p.emit(
        "add", plus, p.emit("mul", times, ones, of_ones), p.emit("mul", times, zeros, of_zeros)
    )
    return p.emit("mul", times, both, -1)


@lowers("binary_cross_entropy")
def _bce(p, args, kwargs, result):
    losses = p.emit(
        "bce_probability",
        lambda q, y: F.binary_cross_entropy(q, y, reduction="none"),
        *args[:2],
        called="binary_cross_entropy",
    )
    if len(args) > 2 and args[2] is not None:
        losses = p.emit("mul", lambda a, b: a * b, losses, args[2])
    return _averaged(p, losses, args[3] if len(args) > 3 else 1)


@lowers("smooth_l1_loss", "huber_loss")
def _huber(p, args, kwargs, result):
    family = families.smooth_l1 if "smooth" in kwargs["name"] else families.huber
    edge = args[3] if len(args) > 3 else 1
    if edge == 0:  # smooth L1 is L1 then
        return opaque(p, args, kwargs, result)
    difference = p.emit("sub", minus, *args[:2])
    spec = family(edge)
    losses = p.emit("unary", spec.function, difference, called="huber", spec=spec)
    p.call(losses, kwargs["name"], *args[:2])
    return _averaged(p, losses, args[2] if len(args) > 2 else 1)


@lowers("nll_loss_forward", "nll_loss2d_forward", "nll_loss_nd")
def _nll(p, args, kwargs, result):
    log_p, targets, weight, reduction, ignored = args
    if p[log_p].dim() != 2:
        return opaque(p, args, kwargs, result)
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
            return opaque(p, args, kwargs, result)
        valid = (p[targets] != ignored).to(p[log_p])
        counted = p.leaf(valid, "the targets that count", "captured")
    if counted is None:
        return [p.call(_averaged(p, losses, reduction), *loss), None]
    losses = p.call(p.emit("mul", lambda a, b: a * b, losses, counted), *loss)
    if reduction == 0:
        return [losses, None]
    summed = p.call(emit_sum(p, losses, (0,), False), *loss)
    if reduction == 1:
        summed = p.emit("div", over, summed, emit_sum(p, counted, (0,), False))
    return [p.call(summed, *loss), None]
