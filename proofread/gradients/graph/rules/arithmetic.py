"""Sums, products, powers, reductions, and what only moves entries about."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch

from proofread.gradients.graph.convolution import (
    kernel_gradient,
    signal_gradient,
    transposed_kernel_gradient,
    transposed_signal_gradient,
)
from proofread.gradients.graph.naming import number
from proofread.gradients.graph.program import Alternative, Program, Ref
from proofread.gradients.graph.rules.core import (
    factor_role,
    mean,
    mul,
    rule,
    spread,
    sub,
    unbroadcast,
)

QUOTIENT = "For a / b, the gradient of b holds -a / b²."


@rule("view", "cast")
def _view(p, step, out, g):
    source = step.arguments[0]
    shape, dtype = p.shape(source), p[source].dtype
    count = math.prod(shape)

    def back(x):
        # A planted mistake may change how many entries there are: then they stay as they are.
        return x.reshape(shape).to(dtype) if x.numel() == count else x.to(dtype)

    return [(source, p.emit("view", back, g))]


@rule("stopped")
def _stopped(p, step, out, g):
    """What is detached is a constant, as in a straight-through estimator."""
    return []


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
            inverse = _inverse(p, b)
            role = factor_role(p, inverse)
        else:
            inverse = 1 / b
            role = "count" if b == int(b) and b > 1 and _is_sum(p, a) else factor_role(p, inverse)
        found.append((a, unbroadcast(p, mul(p, g, inverse, role), a)))
    if isinstance(b, Ref):
        top = mul(p, g, out, "operand")
        inverse = _inverse(p, b)
        squared = mul(
            p,
            *(top, inverse, "operand"),
            alternatives=(
                Alternative(
                    "wrong_power", "the divisor of {site} is not squared", lambda g, f: g, QUOTIENT
                ),
                Alternative(
                    "wrong_power",
                    "the divisor of {site} is cubed",
                    lambda g, f: g * f * f,
                    QUOTIENT,
                ),
            ),
        )
        product = mul(p, squared, -1, "sign")
        found.append((b, unbroadcast(p, product, b)))
    return found


def _inverse(p: Program, b: Ref) -> Ref:
    return p.call(p.emit("reciprocal", lambda x: 1 / x, b), "div", 1, b)


def _is_sum(p: Program, ref: Ref) -> bool:
    step = p.steps[ref.i]
    if step.kind == "mul" and len(step.operands()) == 1:
        return _is_sum(p, step.operands()[0])
    return step.kind == "sum" or step.details.get("called") == "sum_pool"


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
                f"yours {'still ' if k == n else ''}has the exponent {number(k)} at {{site}}; its "
                f"derivative has {number(n - 1)}",
                lambda v, _, k=k: v**k,
            )
            for k in dict.fromkeys((n, n - 2, n + 1, -n, 1 - n))
            if k != n - 1
        ),
    )
    p.call(power, "pow", x, n - 1)
    local = mul(p, power, n, "power")
    return [(x, mul(p, g, local, "local"))]


@rule("exponential")
def _exponential(p, step, out, g):
    """aˣ, by x and by a: what varies decides which of two rules it takes."""
    a, x = step.arguments
    found = []
    power_rule = "this is the power rule, n xⁿ⁻¹, and in {site} it is the exponent that varies"
    if isinstance(x, Ref) and p.is_float(x):
        local = p.emit(
            "local",
            lambda base, n, y: y * torch.as_tensor(base).log(),
            *(a, x, out),
            called="exponential'",
            alternatives=(
                Alternative(
                    "other_variant",
                    power_rule,
                    lambda base, n, y: n * y / base,
                    "(aˣ)' = ln a · aˣ.",
                ),
                Alternative(
                    "other_variant",
                    power_rule,
                    lambda base, n, y: base * n ** (base - 1),
                    "(aˣ)' = ln a · aˣ.",
                ),
                Alternative(
                    "missing_scale_factor",
                    "the logarithm of the base is left out of the derivative of {site}",
                    lambda base, n, y: y,
                    "(aˣ)' = ln a · aˣ.",
                ),
            ),
        )
        p.call(local, "pow'", a, x)
        found.append((x, unbroadcast(p, mul(p, g, local, "local"), x)))
    if isinstance(a, Ref) and p.is_float(a):
        local = p.emit(
            "local",
            lambda base, n, y: n * base ** (n - 1),
            *(a, x, out),
            called="power'",
            alternatives=(
                Alternative(
                    "other_variant",
                    "this is the rule of an exponential, ln a · aˣ, and in {site} it is the base that "
                    "varies",
                    lambda base, n, y: y * base.log(),
                    "(xⁿ)' = n xⁿ⁻¹.",
                ),
                Alternative(
                    "missing_scale_factor",
                    "the exponent is left out before the power in the derivative of {site}",
                    lambda base, n, y: base ** (n - 1),
                    "(xⁿ)' = n xⁿ⁻¹.",
                ),
                Alternative(
                    "wrong_power",
                    "the derivative of {site} still has the exponent of the function",
                    lambda base, n, y: n * y,
                    "(xⁿ)' = n xⁿ⁻¹.",
                ),
            ),
        )
        p.call(local, "pow'", a, x)
        found.append((a, unbroadcast(p, mul(p, g, local, "local"), a)))
    return found


@rule("where")
def _where(p, step, out, g):
    condition, a, b = step.arguments
    found = []
    for k, branch in enumerate((a, b)):
        if isinstance(branch, Ref):
            mask = p.emit(
                "condition", (lambda c: c) if k == 0 else (lambda c: ~c), condition, called="mask"
            )
            p.call(mask, "" if k == 0 else "logical_not", condition)
            product = mul(p, g, mask, "mask")
            found.append((branch, unbroadcast(p, product, branch)))
    return found


@rule("sum")
def _sum(p, step, out, g):
    return [(step.arguments[0], spread(p, g, step))]


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

    mask = p.call(p.emit("condition", chosen, x, out, called="mask"), "eq", x, out)
    return [(x, mul(p, spread(p, g, step), mask, "mask"))]


@rule("mm")
def _mm(p, step, out, g):
    a, b = step.arguments
    left = p.emit("mm", torch.matmul, g, flipped(p, b), role="operand", operand=b.i)
    right = p.emit("mm", torch.matmul, flipped(p, a), g, role="operand", operand=a.i)
    return [(a, unbroadcast(p, left, a)), (b, unbroadcast(p, right, b))]


def flipped(p: Program, matrix: Ref) -> Ref:
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
                alternatives=tuple(_other_moves(p, step, out, places)),
            ),
        )
    ]


def _other_moves(p: Program, step, out: Ref, places: Callable) -> Iterator[Alternative]:
    """Entries that are moved, but not back to where they came from."""
    source, shape = step.arguments[0], p.shape(step.arguments[0])
    if p.shape(out) == shape:
        yield Alternative(
            "transposed_operand",
            "the entries are moved the way that {site} moves them, and must be moved back",
            lambda g, index: g.reshape(-1)[index].reshape(shape),
            "Each gradient goes back to the place that its entry came from.",
        )
    inner = step.details.get("inner")
    if inner is not None:
        yield Alternative(
            "missing_path",
            "what the padding of {site} has read of an entry does not come back to it",
            lambda g, index: g[inner],
            "An entry that is in the padding too is read twice: both gradients are its own.",
        )
    last = step.details.get("last_windows")
    if last is not None:

        def of_last_window(g, index):
            here = torch.arange(math.prod(shape)).reshape(shape)
            chosen = index.reshape(g.shape)[last] == here
            return torch.where(chosen, g[last], torch.zeros((), dtype=g.dtype))

        yield Alternative(
            "overwrite_not_accumulate",
            "where windows of {site} overlap, the last one writes over what the others have left",
            of_last_window,
        )
    as_average = step.details.get("as_average")
    if as_average:

        def spread_evenly(g, index):
            with torch.enable_grad():
                x = torch.zeros(p.shape(source), dtype=g.dtype, requires_grad=True)
                return torch.autograd.grad(as_average(x), x, g)[0]

        yield Alternative(
            "other_variant",
            "each gradient is shared by its whole window, as average pooling would, and {site} "
            "gives it to the largest entry",
            spread_evenly,
        )


@rule("cumprod")
def _cumprod(p, step, out, g):
    """An entry is a factor of each product from its own on: sum(g * y) from the end, over x."""
    summed = _from_the_end(p, step, out, mul(p, g, out, "operand"))
    return [(step.arguments[0], mul(p, summed, _inverse(p, step.arguments[0]), "operand"))]


@rule("cumsum")
def _cumsum(p, step, out, g):
    """An entry is part of each sum from its own on: the gradients are summed from the end."""
    return [(step.arguments[0], _from_the_end(p, step, out, g))]


def _from_the_end(p: Program, step, out: Ref, g: Ref) -> Ref:
    axis = step.details["axis"]

    def from_the_end(g, along=axis):
        return g.flip(along).cumsum(along).flip(along)

    alternatives = [
        Alternative(
            "transposed_operand",
            "the gradient is summed from the start, as {site} is, and must be summed from the end",
            lambda g: g.cumsum(axis),
            "Flip the gradient, take the running sum, and flip that back.",
        ),
        Alternative(
            "missing_cross_terms",
            "each entry gets the gradient of its own sum only, and {site} has it in all later sums",
            lambda g: g.clone(),
        ),
        Alternative(
            "missing_path",
            "the gradient of each entry's own sum is left out at {site}",
            lambda g: from_the_end(g) - g,
        ),
        *[
            Alternative(
                "wrong_axis",
                f"your gradient is summed along axis {other}, and {{site}} along axis {axis}",
                lambda g, other=other: from_the_end(g, other),
            )
            for other in range(p[out].dim())
            if other != axis
        ],
        Alternative(
            "missing_cross_terms",
            "each entry gets the sum of all gradients, and {site} has it in its own and later sums",
            lambda g: g.sum(axis, keepdim=True).expand_as(g),
        ),
    ]
    return p.emit("cumsum", from_the_end, g, role="local", alternatives=tuple(alternatives))


@rule("unpadded")
def _unpadded(p, step, out, g):
    """The value as it is; but the row for padding gets no gradient."""
    return [(step.arguments[0], mul(p, g, step.arguments[1], "mask"))]


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

    return [
        (step.arguments[0], signal_gradient(p, step, g)),
        (step.arguments[1], kernel_gradient(p, step, g)),
    ]


@rule("conv_transpose")
def _conv_transpose(p, step, out, g):
    return [
        (step.arguments[0], transposed_signal_gradient(p, step, g)),
        (step.arguments[1], transposed_kernel_gradient(p, step, g)),
    ]
