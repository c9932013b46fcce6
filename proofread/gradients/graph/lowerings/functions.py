"""Functions of one variable, and softmax."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from proofread.gradients.graph import families
from proofread.gradients.graph.lowerings.core import emit_softmax, lowers, minus, opaque, plus
from proofread.gradients.graph.program import Program, Ref
from proofread.gradients.graph.unary import UNARY

FAMILIES = {
    "elu": families.elu,
    "celu": lambda alpha: families.elu(alpha, 1, 1 / alpha),
    "softplus": families.softplus,
}


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
    "log10",
    "hardswish",
    "hardsigmoid",
    "softplus",
    "leaky_relu",
    "elu",
    "celu",
    "clamp",
    "clamp_min",
    "clamp_max",
    "sgn",
    "sign",
    "mish",
    "atan",
    "asin",
    "acos",
    "tan",
    "sinh",
    "cosh",
    "asinh",
    "acosh",
    "atanh",
    "exp2",
    "erfc",
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
        else:
            spec = families.clamp(low, high)
            clamped = p.emit("unary", spec.function, args[0], called="clamp", spec=spec)
            return p.call(clamped, "clamp", args[0], low, high)
    if name == "hardtanh" and len(settings) == 2:
        if settings == [-1, 1]:
            settings = []
        else:
            spec = families.clamp(*settings)
            return p.emit("unary", spec.function, args[0], called=name, spec=spec)
    if name == "log_sigmoid_forward":
        return [p.emit("unary", F.logsigmoid, args[0], called="logsigmoid"), None]
    if name == "softplus" and settings in ([], [1], [1, 20], [1.0, 20.0]):
        settings = []
    if name == "leaky_relu":
        slope = settings[0] if settings else 0.01
        where = p.emit("where", torch.where, *_leaky_parts(p, args[0], slope), called="leaky_relu")
        return p.call(where, "leaky_relu", args[0])
    if name == "celu" and not settings:
        name = "elu"  # the same for alpha = 1
    if name == "elu" and settings in ([], [1], [1.0]):
        settings = []
    if settings and name in FAMILIES:
        spec = FAMILIES[name](*settings)
        called = "selu" if name == "elu" and len(settings) > 1 else name
        return p.emit("unary", spec.function, args[0], called=called, spec=spec)
    if name not in UNARY or settings:
        return opaque(p, args, kwargs, result)
    return p.emit("unary", UNARY[name].function, args[0], called=name)


@lowers("_prelu_kernel")
def _prelu(p, args, kwargs, result):
    where = p.emit("where", torch.where, *_leaky_parts(p, *args), called="prelu")
    return p.call(where, "prelu", *args)


@lowers("glu")
def _glu(p, args, kwargs, result):
    axis = args[1] if len(args) > 1 else -1
    value, gate = (
        p.emit("pick", lambda x, k=k: x.chunk(2, axis)[k], args[0], called="chunk")
        for k in range(2)
    )
    opened = p.emit("unary", UNARY["sigmoid"].function, gate, called="sigmoid")
    return p.call(p.emit("mul", lambda a, b: a * b, value, opened), "glu", args[0])


@lowers("lerp")
def _lerp(p, args, kwargs, result):
    start, end, weight = args
    way = p.emit("mul", lambda a, b: a * b, p.emit("sub", minus, end, start), weight)
    return p.call(p.emit("add", plus, start, way), "lerp", *args)


def _leaky_parts(p: Program, x: Ref, slope: Ref | float) -> tuple[Ref, Ref, Ref]:
    positive = p.call(p.emit("condition", lambda v: v > 0, x), "gt", x, 0)
    return positive, x, p.emit("mul", lambda a, b: a * b, x, slope)
