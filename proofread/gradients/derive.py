"""Append the backward to a recorded forward, one rule of differentiation for each kind of step.

Each rule writes its formula as a textbook does, in small steps with a role ("local", "mask",
"count", "broadcast", …), because a mistake is later planted in one of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from proofread.gradients.program import Alternative, Program, Ref, Step
from proofread.gradients.trace import is_count, mean_over, sum_over
from proofread.gradients.unary import UNARY, Unary

Rule = Callable[[Program, Step, Ref, Ref], list[tuple[Ref, Ref]]]
RULES: dict[str, Rule] = {}


class Underivable(Exception):
    """No rule gives the gradient that autograd gives."""


def rule(*kinds: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(kinds, function))
        return function

    return register


def differentiate(
    forward: Program, upstream: Tensor, textbook: dict[int, Callable] | None = None
) -> Program:
    """Return forward and backward as one program, its result the gradient by `wrt`.

    `textbook` maps a forward step to a rule of its own, `rule(program, value, gradient)`,
    which leads back to an earlier value at once and skips the steps between.
    """
    p = forward.fork()
    p.phase = "backward"
    p.about = p.output.i
    p.upstream = p.leaf(upstream, "upstream", "upstream")
    active = p.dependents(1 << p.wrt.i)
    gradients: dict[int, Ref] = {p.output.i: p.upstream}
    for i in range(p.output.i, p.wrt.i, -1):
        if i not in gradients or not active >> i & 1:
            continue
        p.about = i
        if textbook and i in textbook:
            contributions = textbook[i](p, Ref(i), gradients[i])
        else:
            contributions = RULES.get(p.steps[i].kind, _by_autograd)(
                p, p.steps[i], Ref(i), gradients[i]
            )
        for argument, gradient in contributions:
            if not active >> argument.i & 1:
                continue
            before = gradients.get(argument.i)
            p.about = i
            gradients[argument.i] = (
                gradient
                if before is None
                else p.emit(
                    "add", lambda a, b: a + b, before, gradient, role="fork", forked=argument.i
                )
            )
    if p.wrt.i not in gradients:
        raise Underivable("no path leads from the output to the argument")
    p.result = gradients[p.wrt.i]
    return p


def mul(p: Program, a, b, role: str, **extra) -> Ref:
    return p.emit("mul", lambda x, y: x * y, a, b, role=role, **extra)


def add(p: Program, a, b, role: str = "") -> Ref:
    return p.emit("add", lambda x, y: x + y, a, b, role=role)


def sub(p: Program, a, b, role: str = "") -> Ref:
    return p.emit("sub", lambda x, y: x - y, a, b, role=role)


def total(p: Program, x: Ref, axes: tuple[int, ...], keep: bool, role: str) -> Ref:
    return p.emit("sum", sum_over(axes, keep), x, role=role, axes=axes, keep=keep)


def mean(p: Program, x: Ref, axes: tuple[int, ...], role: str) -> Ref:
    return p.emit("mean", mean_over(axes, True), x, role=role, axes=axes, keep=True)


def unbroadcast(p: Program, gradient: Ref, target: Ref) -> Ref:
    """Sum over the axes that broadcasting added or stretched."""
    have, want = p.shape(gradient), p.shape(target)
    if have == want:
        return gradient
    lead = len(have) - len(want)
    if lead < 0:
        return p.emit("expand", lambda x: x.expand(want), gradient)
    stretched = tuple(
        i for i in range(len(have)) if i < lead or (want[i - lead] == 1 and have[i] != 1)
    )
    if len(have) > len(want) or stretched:
        kept = tuple(i for i in stretched if i >= lead)
        gradient = p.emit(
            "sum",
            lambda x: x.sum(stretched, keepdim=True).reshape(want),
            gradient,
            role="broadcast",
            axes=stretched,
            keep=bool(kept),
            shape=want,
        )
    if p.shape(gradient) != want:
        gradient = p.emit("expand", lambda x: x.expand(want), gradient)
    return gradient


@rule("view", "cast")
def _view(p, step, out, g):
    source = step.arguments[0]
    shape, dtype = p.shape(source), p[source].dtype
    count = math.prod(shape)

    def back(x):
        # A planted mistake may change how many entries there are: then they stay as they are.
        return x.reshape(shape).to(dtype) if x.numel() == count else x.to(dtype)

    return [(source, p.emit("view", back, g))]


@rule("permute")
def _permute(p, step, out, g):
    order = step.details["order"]
    back = tuple(order.index(i) for i in range(len(order)))
    return [(step.arguments[0], p.emit("permute", lambda x: x.permute(back), g, order=back))]


@rule("expand")
def _expand(p, step, out, g):
    return [(step.arguments[0], unbroadcast(p, g, step.arguments[0]))]


@rule("add")
def _add(p, step, out, g):
    return [(a, unbroadcast(p, g, a)) for a in step.arguments if isinstance(a, Ref)]


@rule("sub")
def _sub(p, step, out, g):
    a, b = step.arguments
    found = [(a, unbroadcast(p, g, a))] if isinstance(a, Ref) else []
    if isinstance(b, Ref):
        found.append((b, unbroadcast(p, mul(p, g, -1, "sign"), b)))
    return found


def factor_role(p: Program, factor) -> str:
    """Say what a multiplier is: a mask, a constant, a statistic or another operand."""
    if not isinstance(factor, Ref):
        sizes = {
            s
            for step, v in zip(p.steps, p.values, strict=True)
            if step.kind == "leaf" and isinstance(v, Tensor)
            for s in v.shape
        }
        if factor == -1:
            return "sign"
        if factor and abs(factor) < 1 and is_count(round(1 / abs(factor), 9), sizes):
            return "count"
        return "const"
    value = p[factor]
    if value.dtype == torch.bool or (value.numel() > 1 and ((value == 0) | (value == 1)).all()):
        return "mask"
    if value.numel() > 1 and (value == 0).any() and value[value != 0].unique().numel() == 1:
        return "mask"
    if value.numel() == 1:
        count = 1 / abs(float(value)) if value else 0.0
        return "count" if count > 2.5 and abs(count - round(count)) < 1e-9 else "const"
    return "operand"


@rule("mul")
def _mul(p, step, out, g):
    a, b = step.arguments
    found = []
    for factor, other in ((b, a), (a, b)):
        if isinstance(other, Ref):
            role = factor_role(p, factor)
            role = "const" if role == "count" and not isinstance(factor, Ref) else role
            product = mul(p, g, factor, role)
            found.append((other, unbroadcast(p, product, other)))
    return found


@rule("div")
def _div(p, step, out, g):
    a, b = step.arguments
    found = []
    if isinstance(a, Ref):
        if isinstance(b, Ref):
            inverse = p.emit("reciprocal", lambda x: 1 / x, b)
            role = factor_role(p, inverse)
        else:
            inverse = 1 / b
            role = "count" if b == int(b) and b > 1 and _is_sum(p, a) else factor_role(p, inverse)
        found.append((a, unbroadcast(p, mul(p, g, inverse, role), a)))
    if isinstance(b, Ref):
        top = mul(p, g, out, "operand")
        inverse = p.emit("reciprocal", lambda x: 1 / x, b)
        product = mul(p, mul(p, top, inverse, "operand"), -1, "sign")
        found.append((b, unbroadcast(p, product, b)))
    return found


def _is_sum(p: Program, ref: Ref) -> bool:
    step = p.steps[ref.i]
    if step.kind == "mul" and len(step.operands()) == 1:
        return _is_sum(p, step.operands()[0])
    return step.kind == "sum"


@rule("pow")
def _pow(p, step, out, g):
    x, n = step.arguments
    power = p.emit(
        "power",
        lambda v, k: v**k,
        x,
        n - 1,
        alternatives=tuple(
            Alternative(
                "wrong_power",
                f"the exponent {k} stands where {n - 1} belongs",
                lambda v, _, k=k: v**k,
            )
            for k in dict.fromkeys((n, n - 2, n + 1, -n, 1 - n))
            if k != n - 1
        ),
    )
    local = mul(p, power, n, "power")
    return [(x, mul(p, g, local, "local"))]


@rule("unary")
def _unary(p, step, out, g):
    z = step.arguments[0]
    name = step.details["called"]
    return [(z, unary_gradient(p, name, z, out, g))]


def unary_gradient(p: Program, name: str, z: Ref, y: Ref, g: Ref, spec: Unary | None = None) -> Ref:
    """The gradient by z of a function of one variable, `spec` or the one of that name."""
    spec = spec or UNARY[name]
    what = f"the derivative of {name}"
    alternatives = [
        Alternative(
            "derivative_at_wrong_point",
            f"{what} in its input form is fed the output",
            lambda zz, yy: spec.from_input(yy),
        ),
    ]
    if spec.from_output:
        alternatives += [
            Alternative(
                "derivative_at_wrong_point",
                f"{what} in its output form is fed the input",
                lambda zz, yy: spec.from_output(zz),
            ),
            Alternative(
                "derivative_at_wrong_point",
                f"{name} is applied once too often",
                lambda zz, yy: spec.from_output(spec.function(yy)),
            ),
        ]
    for k, term in enumerate(spec.terms):
        alternatives.append(
            Alternative(
                "missing_product_term",
                f"{what} has two terms by the product rule",
                lambda zz, yy, t=term: t(zz),
            )
        )
        others = [t for j, t in enumerate(spec.terms) if j != k]
        alternatives.append(
            Alternative(
                "sign_error",
                f"one term of {what} has the wrong sign",
                lambda zz, yy, t=term, o=others: sum(f(zz) for f in o) - t(zz),
            )
        )
        alternatives.append(
            Alternative(
                "double_counted",
                f"one term of {what} is added twice",
                lambda zz, yy, t=term, o=others: sum(f(zz) for f in o) + 2 * t(zz),
            )
        )
    if spec.terms:
        alternatives.append(
            Alternative(
                "derivative_at_wrong_point",
                f"{what} is fed the output",
                lambda zz, yy: spec.terms[0](zz) + spec.terms[1](yy),
            )
        )
        first, second = spec.terms
        alternatives += [
            Alternative(
                "missing_product_term",
                f"{what}: its second term lacks the factor z",
                lambda zz, yy: first(zz) + second(zz) / zz,
            ),
            Alternative(
                "missing_local_derivative",
                f"{what}: the value stands in its place",
                lambda zz, yy: yy,
            ),
        ]
    if name == "relu":
        alternatives += [
            Alternative("wrong_mask", "the mask is inverted", lambda zz, yy: (zz <= 0).to(zz)),
            Alternative(
                "wrong_mask", "the sign stands for the mask", lambda zz, yy: torch.sign(zz)
            ),
            Alternative(
                "wrong_mask", "the mask asks for a value above 1", lambda zz, yy: (zz > 1).to(zz)
            ),
            Alternative("wrong_operand", "the output stands for the mask", lambda zz, yy: yy),
        ]
    else:
        alternatives += [
            Alternative(
                "missing_local_derivative",
                f"the value of {name} stands in for its slope",
                lambda zz, yy: yy,
            ),
            Alternative(
                "wrong_power",
                f"{what} is squared or its root taken",
                lambda zz, yy: spec.from_input(zz).abs().sqrt(),
            ),
        ]
    if name == "leaky_relu":
        slope = float(spec.from_input(torch.tensor(-1.0)))
        alternatives += [
            Alternative(
                "wrong_mask",
                "the two slopes are exchanged",
                lambda zz, yy: torch.where(zz > 0, slope, 1.0).to(zz),
            ),
            Alternative(
                "wrong_scale_factor",
                f"the slope {slope:.4g} is negated",
                lambda zz, yy: torch.where(zz > 0, 1.0, -slope).to(zz),
            ),
        ]
    powers = [
        Alternative("wrong_power", f"{what} has another exponent", lambda zz, yy, w=wrong: w(zz))
        for wrong in spec.wrong_powers
    ]
    # In a statistic, 1/x for 1/sqrt(x) is an exponent rather than a point of evaluation.
    inside = p.shape(z) != p.shape(p.wrt)
    alternatives = powers + alternatives if inside else alternatives + powers
    if spec.unscaled:
        alternatives.insert(
            0,
            Alternative(
                "missing_scale_factor",
                f"the factor 1/2 of {what} is left out",
                lambda zz, yy: spec.unscaled(zz),
            ),
        )
    if name == "sigmoid":
        alternatives += [
            Alternative(
                "missing_product_term",
                f"{what} is s (1 - s), and one factor is missing",
                lambda zz, yy: 1 - yy,
            ),
            Alternative(
                "sign_error", f"one term of {what} has the wrong sign", lambda zz, yy: yy * (1 + yy)
            ),
        ]
    if name == "tanh":
        alternatives += [
            Alternative("wrong_power", f"{what} needs the square of tanh", lambda zz, yy: 1 - yy),
            Alternative(
                "sign_error", f"one term of {what} has the wrong sign", lambda zz, yy: 1 + yy * yy
            ),
        ]
    for relative in spec.relatives:
        alternatives.append(
            Alternative(
                "other_variant",
                f"this is the derivative of {relative}, not of {name}",
                lambda zz, yy, r=relative: UNARY[r].from_input(zz),
            )
        )
    local = p.emit(
        "local",
        lambda zz, yy: spec.from_input(zz),
        z,
        y,
        alternatives=tuple(alternatives),
        called=f"{name}'",
    )
    return mul(p, g, local, "activation_mask" if name == "relu" else "local", called=name)


@rule("where")
def _where(p, step, out, g):
    condition, a, b = step.arguments
    found = []
    for k, branch in enumerate((a, b)):
        if isinstance(branch, Ref):
            mask = p.emit(
                "condition", (lambda c: c) if k == 0 else (lambda c: ~c), condition, called="mask"
            )
            product = mul(p, g, mask, "mask")
            found.append((branch, unbroadcast(p, product, branch)))
    return found


@rule("sum")
def _sum(p, step, out, g):
    return [(step.arguments[0], spread(p, g, step))]


def spread(p: Program, g: Ref, step: Step) -> Ref:
    """Copy a gradient of a reduced value over the axes that were reduced."""
    shape, axes, keep = p.shape(step.arguments[0]), step.details["axes"], step.details["keep"]

    def copy(x):
        if not keep:
            for axis in axes:
                x = x.unsqueeze(axis)
        return x.expand(shape)

    return p.emit("spread", copy, g, role="spread", axes=axes)


@rule("mean")
def _mean(p, step, out, g):
    count = math.prod(p.shape(step.arguments[0])[a] for a in step.details["axes"])
    return [(step.arguments[0], mul(p, spread(p, g, step), 1 / count, "count", count=count))]


@rule("var")
def _var(p, step, out, g):
    x, axes, correction = step.arguments[0], step.details["axes"], step.details["correction"]
    count = math.prod(p.shape(x)[a] for a in axes)
    centred = sub(p, x, mean(p, x, axes, "centre"))
    scaled = mul(
        p, mul(p, centred, 2, "power"), 1 / (count - correction), "count", count=count - correction
    )
    return [(x, mul(p, spread(p, g, step), scaled, "local"))]


@rule("extreme")
def _extreme(p, step, out, g):
    x, axes, keep = step.arguments[0], step.details["axes"], step.details["keep"]

    def chosen(v, y):
        if not keep:
            for axis in axes:
                y = y.unsqueeze(axis)
        hits = (v == y).to(v)
        return hits / hits.sum(axes, keepdim=True)

    mask = p.emit("condition", chosen, x, out, called="mask")
    return [(x, mul(p, spread(p, g, step), mask, "mask"))]


@rule("logsumexp")
def _logsumexp(p, step, out, g):
    x, axes = step.arguments[0], step.details["axes"]
    if len(axes) > 1:
        return _by_autograd(p, step, out, g)
    weights = p.emit("softmax", lambda v: torch.softmax(v, axes[0]), x, axis=axes[0])
    return [(x, mul(p, spread(p, g, step), weights, "local"))]


def softmax_product(q: Tensor, g: Tensor, axis: int) -> Tensor:
    """Softmax's Jacobian at the probabilities q, times g."""
    return q * (g - (g * q).sum(axis, keepdim=True))


@rule("softmax")
def _softmax(p, step, out, g):
    return [
        (step.arguments[0], softmax_gradient(p, step.arguments[0], out, g, step.details["axis"]))
    ]


def softmax_gradient(p: Program, x: Ref, y: Ref, g: Ref, axis: int) -> Ref:
    """p * (G - sum(G * p)), in the steps of that formula."""
    weighted = mul(p, g, y, "inner")
    inner = total(p, weighted, (axis,), True, "cross")
    difference = p.emit(
        "sub",
        lambda a, b: a - b,
        g,
        inner,
        role="cross",
        alternatives=(
            Alternative(
                "missing_cross_terms", "the sum over the other entries is left out", lambda a, b: a
            ),
        ),
    )

    def diagonal(d, probability, gradient, logits):
        return gradient * probability * (1 - probability)

    def along(other):
        def rule(d, y, g, z):
            q = torch.softmax(z, other)
            return q * (g - (g * q).sum(other, keepdim=True))

        return rule

    return p.emit(
        "mul3",
        lambda d, y, g, z: y * d,
        difference,
        y,
        g,
        x,
        role="local",
        called="softmax",
        alternatives=(
            *[
                Alternative(
                    "wrong_axis", f"softmax runs over axis {other}, not {axis}", along(other)
                )
                for other in range(p[x].dim())
                if other != axis
            ],
            Alternative(
                "missing_cross_terms",
                "only the diagonal p(1 - p) of softmax's Jacobian is used",
                diagonal,
            ),
            Alternative(
                "derivative_at_wrong_point",
                "softmax is applied twice",
                lambda d, y, g, z: softmax_product(torch.softmax(y, axis), g, axis),
            ),
            Alternative(
                "missing_local_derivative", "softmax's derivative is left out", lambda d, y, g, z: g
            ),
            Alternative(
                "missing_local_derivative", "the factor p is left out", lambda d, y, g, z: d
            ),
            Alternative(
                "applied_twice", "the factor p is multiplied in twice", lambda d, y, g, z: y * y * d
            ),
            Alternative(
                "applied_twice",
                "softmax's Jacobian is applied twice",
                lambda d, y, g, z: y * (y * d - (y * d * y).sum(axis, keepdim=True)),
            ),
            Alternative(
                "sign_error", "the sum is added, not subtracted", lambda d, y, g, z: y * (2 * g - d)
            ),
            Alternative(
                "missing_cross_terms",
                "only the factor -p² of the diagonal is subtracted",
                lambda d, y, g, z: y * g - y * y,
            ),
            Alternative(
                "other_variant",
                "this is the rule of log-softmax",
                lambda d, y, g, z: g - y * g.sum(axis, keepdim=True),
            ),
            Alternative(
                "missing_upstream",
                "the upstream is left out of the sum",
                lambda d, y, g, z: y * g - y * y.sum(axis, keepdim=True),
            ),
        ),
    )


@rule("log_softmax")
def _log_softmax(p, step, out, g):
    return [
        (
            step.arguments[0],
            log_softmax_gradient(p, step.arguments[0], out, g, step.details["axis"]),
        )
    ]


def log_softmax_gradient(p: Program, x: Ref, y: Ref, g: Ref, axis: int) -> Ref:
    """G - p * sum(G), in the steps of that formula."""
    probability = p.emit("softmax", torch.exp, y, called="softmax")
    inner = total(p, g, (axis,), True, "cross")
    product = mul(p, probability, inner, "operand")
    return p.emit(
        "sub3",
        lambda g, t, q, z: g - t,
        g,
        product,
        probability,
        x,
        role="target",
        alternatives=(
            Alternative(
                "derivative_at_wrong_point",
                "softmax is applied twice",
                lambda g, t, q, z: g - torch.softmax(q, axis) * g.sum(axis, keepdim=True),
            ),
            Alternative(
                "derivative_at_wrong_point",
                "the logits stand where their softmax belongs",
                lambda g, t, q, z: g - z * g.sum(axis, keepdim=True),
            ),
            Alternative(
                "missing_local_derivative",
                "the exponentials stand where softmax belongs",
                lambda g, t, q, z: g - z.exp() * g.sum(axis, keepdim=True),
            ),
            *[
                Alternative(
                    "wrong_axis",
                    f"softmax runs over axis {other}, not {axis}",
                    lambda g, t, q, z, o=other: g - torch.softmax(z, o) * g.sum(axis, keepdim=True),
                )
                for other in range(p[x].dim())
                if other != axis
            ],
            Alternative(
                "missing_cross_terms",
                "only the diagonal 1 - p is used",
                lambda g, t, q, z: g * (1 - q),
            ),
            Alternative(
                "other_variant",
                "this is the rule of softmax",
                lambda g, t, q, z: q * (g - (g * q).sum(axis, keepdim=True)),
            ),
            Alternative(
                "missing_upstream", "the upstream is left out of the sum", lambda g, t, q, z: g - q
            ),
            Alternative(
                "missing_local_derivative",
                "log-softmax's derivative is left out",
                lambda g, t, q, z: g,
            ),
            Alternative("sign_error", "one term has the wrong sign", lambda g, t, q, z: g + t),
            Alternative("sign_error", "one term has the wrong sign", lambda g, t, q, z: -g - t),
            Alternative(
                "applied_twice",
                "softmax's own Jacobian is multiplied in as well",
                lambda g, t, q, z: q * ((g - t) - ((g - t) * q).sum(axis, keepdim=True)),
            ),
            Alternative(
                "applied_twice",
                "softmax's slope p(1 - p) is multiplied in as well",
                lambda g, t, q, z: (g - t) * q * (1 - q),
            ),
            Alternative(
                "missing_path",
                "the path through the sum of exponentials is left out",
                lambda g, t, q, z: g,
            ),
            Alternative("missing_target", "the target is not subtracted", lambda g, t, q, z: -t),
            Alternative(
                "missing_cross_terms",
                "only the entries of the targets get a gradient",
                lambda g, t, q, z: torch.where(g != 0, g - t, torch.zeros_like(g)),
            ),
        ),
    )


@rule("bce")
def _bce(p, step, out, g):
    z, y = step.arguments
    probability = p.emit("unary", torch.sigmoid, z, called="sigmoid")
    difference = p.emit(
        "sub",
        lambda a, b: a - b,
        probability,
        y,
        role="target",
        alternatives=(
            Alternative(
                "derivative_at_wrong_point",
                "sigmoid is applied twice",
                lambda a, b: torch.sigmoid(a) - b,
            ),
            Alternative(
                "missing_local_derivative", "sigmoid is left out", lambda a, b: torch.logit(a) - b
            ),
            Alternative(
                "applied_twice",
                "sigmoid's slope is multiplied in as well",
                lambda a, b: (a - b) * a * (1 - a),
            ),
            Alternative(
                "missing_local_derivative",
                "the slope of sigmoid is left out",
                lambda a, b: (a - b) / (a * (1 - a)),
            ),
            Alternative(
                "missing_path",
                "only the term of the positive targets is there",
                lambda a, b: b * (a - 1),
            ),
            Alternative(
                "missing_path",
                "only the term of the negative targets is there",
                lambda a, b: (1 - b) * a,
            ),
            Alternative(
                "sign_error",
                "one of the two terms has the wrong sign",
                lambda a, b: b * (a - 1) - (1 - b) * a,
            ),
            Alternative("sign_error", "the target is added", lambda a, b: a + b),
        ),
    )
    return [
        (z, unbroadcast(p, mul(p, g, difference, "loss"), z)),
        *([(y, mul(p, g, mul(p, z, -1, "sign"), "loss"))] if p.is_float(y) else []),
    ]


@rule("bce_probability")
def _bce_probability(p, step, out, g):
    q, y = step.arguments
    local = p.emit(
        "local",
        lambda a, b: (a - b) / (a * (1 - a)),
        q,
        y,
        called="slope",
        alternatives=(
            Alternative(
                "missing_local_derivative",
                "the denominator q(1 - q) is left out",
                lambda a, b: a - b,
            ),
            Alternative(
                "missing_path",
                "only the term of the positive targets is there",
                lambda a, b: -b / a,
            ),
            Alternative(
                "missing_path",
                "only the term of the negative targets is there",
                lambda a, b: (1 - b) / (1 - a),
            ),
            Alternative(
                "sign_error",
                "one of the two terms has the wrong sign",
                lambda a, b: -b / a - (1 - b) / (1 - a),
            ),
            Alternative(
                "derivative_at_wrong_point",
                "sigmoid is applied to a probability",
                lambda a, b: torch.sigmoid(a) - b,
            ),
            Alternative("missing_target", "the target is not subtracted", lambda a, b: 1 / (1 - a)),
        ),
    )
    odds = p.emit("log_odds", lambda a: torch.log1p(-a) - torch.log(a), q)
    return [
        (q, unbroadcast(p, mul(p, g, local, "loss"), q)),
        *([(y, mul(p, g, odds, "loss"))] if p.is_float(y) else []),
    ]


@rule("normalise")
def _normalise(p, step, out, g):
    x, axes = step.arguments[0], step.details["axes"]
    centred, eps = step.details["centre"], step.details["eps"]

    def rstd(v):
        c = v - v.mean(axes, keepdim=True) if centred else v
        return torch.rsqrt(c.square().mean(axes, keepdim=True) + eps)

    scale = p.emit("rstd", rstd, x, called="rstd")
    count = math.prod(p.shape(x)[a] for a in axes)
    form = Normalisation(axes, centred, count, count, eps)
    return [(x, normalise_gradient(p, x, out, g, scale, form))]


@dataclass(frozen=True)
class Normalisation:
    """(x - mean) / sqrt(squares / divisor + eps) over `count` entries, or without the mean."""

    axes: tuple[int, ...]
    centred: bool
    count: int
    divisor: int
    eps: float


def normalise_gradient(
    p: Program, x: Ref, xhat: Ref, g: Ref, rstd: Ref, form: Normalisation
) -> Ref:
    """r (dn - <dn> - xhat <dn xhat>), in the steps of that formula."""
    axes, centred, count, divisor = form.axes, form.centred, form.count, form.divisor
    inner = total(p, mul(p, g, xhat, "inner"), axes, True, "stat")
    inner = mul(p, inner, 1 / divisor, "count", count=divisor)
    product = mul(p, xhat, inner, "stat_product")
    if centred:
        average = mul(p, total(p, g, axes, True, "stat"), 1 / count, "count", count=count)
    else:
        average = mul(p, total(p, g, axes, True, "stat"), 0.0, "absent")
    alternatives = [
        Alternative(
            "norm_stats_detached",
            "the statistics are treated as constants",
            lambda g, m, t, i, a, r: g,
        ),
        Alternative(
            "norm_var_term_missing",
            "the path through the variance is left out",
            lambda g, m, t, i, a, r: g - m,
        ),
        Alternative(
            "sign_error",
            "the term of the variance has the wrong sign",
            lambda g, m, t, i, a, r: g - m + t,
        ),
        Alternative(
            "missing_path",
            "only the terms of the statistics are there",
            lambda g, m, t, i, a, r: -m - t,
        ),
        Alternative(
            "double_counted",
            "the term of the variance is subtracted twice",
            lambda g, m, t, i, a, r: g - m - 2 * t,
        ),
        Alternative(
            "missing_scale_factor",
            "xhat is left out of the term of the variance",
            lambda g, m, t, i, a, r: g - m - i,
        ),
        Alternative(
            "missing_upstream",
            "the upstream is left out of the term of the variance",
            lambda g, m, t, i, a, r: g - m - a * a.square().mean(axes, keepdim=True),
        ),
        *[
            Alternative(
                "wrong_power",
                f"the term of the variance has the factor (1/std)^{1 + k} too often or too rarely",
                lambda g, m, t, i, a, r, k=k: g - m - t * r**k,
            )
            for k in (-2, -1, 1, 2)
        ],
        Alternative(
            "wrong_scale_factor",
            "the term of the variance is halved",
            lambda g, m, t, i, a, r: g - m - t / 2,
        ),
    ]
    for other in other_axes(axes, p[x].dim()):
        alternatives += _over_other_axes(other, axes, centred)
    if centred:
        alternatives += [
            Alternative(
                "norm_mean_term_missing",
                "the path through the mean is left out",
                lambda g, m, t, i, a, r: g - t,
            ),
            Alternative(
                "sign_error",
                "the term of the mean has the wrong sign",
                lambda g, m, t, i, a, r: g + m - t,
            ),
            Alternative(
                "sign_error",
                "both terms of the statistics have the wrong sign",
                lambda g, m, t, i, a, r: g + m + t,
            ),
            Alternative(
                "double_counted",
                "the term of the mean is subtracted twice",
                lambda g, m, t, i, a, r: g - 2 * m - t,
            ),
        ]
    else:
        alternatives = [
            Alternative(
                "norm_var_term_missing",
                "the path through the mean square is left out",
                lambda g, m, t, i, a, r: g,
            ),
            Alternative(
                "other_variant",
                "this subtracts the mean of the upstream, as LayerNorm "
                "does, but this forward has no mean",
                lambda g, m, t, i, a, r: g - g.mean(axes, keepdim=True) - t,
            ),
            *alternatives,
        ]
    bracket = p.emit(
        "bracket",
        lambda g, m, t, i, a, r: g - m - t,
        g,
        average,
        product,
        inner,
        xhat,
        rstd,
        role="bracket",
        alternatives=tuple(alternatives),
    )
    return p.emit(
        "stat_mul",
        lambda d, r, g, t: d * r,
        bracket,
        rstd,
        g,
        product,
        role="stat",
        alternatives=(
            *_other_variance(form),
            Alternative(
                "missing_scale_factor", "the factor 1/std is left out", lambda d, r, g, t: d
            ),
            Alternative(
                "wrong_power", "the factor 1/std is there twice", lambda d, r, g, t: d * r * r
            ),
            Alternative(
                "wrong_power", "the factor 1/std is there three times", lambda d, r, g, t: d * r**3
            ),
            Alternative(
                "wrong_power", "multiplied by std where 1/std belongs", lambda d, r, g, t: d / r
            ),
            Alternative(
                "wrong_power",
                "the root of the variance is left out or taken twice",
                lambda d, r, g, t: d * r.sqrt(),
            ),
            Alternative(
                "missing_local_derivative",
                "the derivative of the normalisation is left out",
                lambda d, r, g, t: g,
            ),
            Alternative(
                "missing_cross_terms",
                "only the diagonal of the Jacobian is used",
                lambda d, r, g, t: _norm_diagonal(r, g, p[xhat], centred, count, divisor),
            ),
        ),
    )


def _other_variance(form: Normalisation) -> list[Alternative]:
    """The gradient with the unbiased variance for the biased one, or the reverse."""
    if form.divisor == 1 or form.count == 1:
        return []
    biased = form.divisor == form.count
    share = form.divisor / (form.count - 1 if biased else form.count)

    def rule(d, r, g, t):
        scale = torch.rsqrt((r**-2 - form.eps) * share + form.eps)
        return (d + t - t * share * (scale / r) ** 2) * scale

    variance = "unbiased" if biased else "biased"
    what = f"this is the gradient with the {variance} variance"
    return [Alternative("other_variant", what, rule)]


def other_axes(axes: tuple[int, ...], rank: int) -> list[tuple[int, ...]]:
    """Return every set of axes but the given one."""
    sets = [c for n in range(1, rank + 1) for c in itertools.combinations(range(rank), n)]
    return [other for other in sets if other != axes]


def _over_other_axes(other, axes, centred: bool) -> list[Alternative]:
    what = f"the averages run over axes {other}, not over {axes}"

    def average(v):
        return v.mean(other, keepdim=True)

    found = [
        Alternative("wrong_axis", what, lambda g, m, t, i, a, r: g - m - a * average(g * a)),
    ]
    if centred:
        found += [
            Alternative(
                "wrong_axis", what, lambda g, m, t, i, a, r: g - average(g) - a * average(g * a)
            ),
            Alternative("wrong_axis", what, lambda g, m, t, i, a, r: g - average(g) - t),
        ]
    return found


def _norm_diagonal(r, g, xhat, centred, count, divisor):
    return r * g * (1 - (1 / count if centred else 0) - xhat * xhat / divisor)


@rule("mm")
def _mm(p, step, out, g):
    a, b = step.arguments
    left = p.emit("mm", torch.matmul, g, _flipped(p, b), role="operand", operand=b.i)
    right = p.emit("mm", torch.matmul, _flipped(p, a), g, role="operand", operand=a.i)
    return [(a, unbroadcast(p, left, a)), (b, unbroadcast(p, right, b))]


def _flipped(p: Program, matrix: Ref) -> Ref:
    rank = p[matrix].dim()
    order = (*range(rank - 2), rank - 1, rank - 2)
    return p.emit("permute", lambda x: x.mT, matrix, order=order, role="operand")


@rule("pick")
def _pick(p, step, out, g):
    source = step.arguments[0]
    shape = p.shape(source)
    count = math.prod(shape)
    function, rest = step.function, step.arguments[1:]

    def places(*others):
        numbers = torch.arange(count, dtype=torch.float64).reshape(shape)
        return function(numbers, *others).reshape(-1).long()

    where = p.emit("places", places, *rest)

    def scatter(gradient, index):
        flat = gradient.new_zeros(count)
        return flat.index_add(0, index, gradient.reshape(-1)).reshape(shape)

    repeated = bool(p[where].unique().numel() < p[where].numel())
    return [
        (
            source,
            p.emit(
                "scatter",
                scatter,
                g,
                where,
                role="scatter",
                shape=shape,
                repeated=repeated,
                called=step.details.get("called", "pick"),
            ),
        )
    ]


@rule("cat")
def _cat(p, step, out, g):
    axis, found, start = step.details["axis"], [], 0
    for part in step.arguments:
        size = p.shape(part)[axis]
        narrowed = p.emit(
            "slice", lambda x, s=start, n=size: x.narrow(axis, s, n), g, called="slice"
        )
        found.append((part, narrowed))
        start += size
    return found


@rule("conv")
def _conv(p, step, out, g):
    from proofread.gradients.convolution import kernel_gradient, signal_gradient

    return [
        (step.arguments[0], signal_gradient(p, step, g)),
        (step.arguments[1], kernel_gradient(p, step, g)),
    ]


def _by_autograd(p: Program, step: Step, out: Ref, g: Ref) -> list[tuple[Ref, Ref]]:
    """Differentiate a step that has no rule by autograd, as one opaque product."""
    found = []
    for argument in dict.fromkeys(step.operands()):
        if not p.is_float(argument):
            continue

        def product(gradient, *values, argument=argument):
            with torch.enable_grad():
                leaf = values[step.operands().index(argument)].detach().requires_grad_()
                table = dict(zip((r.i for r in step.operands()), values, strict=True))
                table[argument.i] = leaf
                result = step.function(*[_look_up(a, table) for a in step.arguments])
                if not result.requires_grad:
                    return torch.zeros_like(leaf)
                return torch.autograd.grad(result, leaf, gradient)[0]

        found.append(
            (
                argument,
                p.emit(
                    "vjp",
                    product,
                    g,
                    *step.operands(),
                    role="opaque",
                    called=step.details.get("called", step.kind),
                ),
            )
        )
    return found


def _look_up(argument, table):
    if isinstance(argument, Ref):
        return table[argument.i]
    if isinstance(argument, list | tuple):
        return [_look_up(a, table) for a in argument]
    return argument
