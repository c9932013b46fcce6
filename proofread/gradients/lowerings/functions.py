"""Functions of one variable, and softmax."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from proofread.gradients.lowerings.core import emit_softmax, lowers, opaque
from proofread.gradients.program import Program, Ref
from proofread.gradients.unary import UNARY


@lowers("_softmax", "_log_softmax", "_safe_softmax")
def _softmax(p, args, kwargs, result):
    kind = "log_softmax" if "log" in kwargs["name"] else "softmax"
    axis = args[1] % p[args[0]].dim()
    return emit_softmax(p, kind, args[0], axis)


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
        return opaque(p, args, kwargs, result)
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
        return opaque(p, args, kwargs, result)
    return p.emit("unary", UNARY[name].function, args[0], called=name)


def _leaky_parts(p: Program, x: Ref, slope: float) -> tuple[Ref, Ref, Ref]:
    positive = p.call(p.emit("condition", lambda v: v > 0, x), "gt", x, 0)
    return positive, x, p.emit("mul", lambda a, b: a * b, x, slope)
