"""Softmax, its logarithm, and the logarithm of a sum of exponentials."""

from __future__ import annotations

import torch
from torch import Tensor

from proofread.gradients.graph.program import Alternative, Program, Ref
from proofread.gradients.graph.rules.core import by_autograd, mul, rule, spread, total
from proofread.gradients.sentences import LOG_SOFTMAX


@rule("logsumexp")
def _logsumexp(p, step, out, g):
    x, axes = step.arguments[0], step.details["axes"]
    if len(axes) > 1:
        return by_autograd(p, step, out, g)
    other_axes = [
        Alternative(
            "wrong_axis",
            f"the softmax of your gradient runs over axis {other}, and {{site}} over axis {axes[0]}",
            lambda v, other=other: torch.softmax(v, other),
        )
        for other in range(p[x].dim())
        if other != axes[0]
    ]
    weights = p.emit(
        "softmax",
        lambda v: torch.softmax(v, axes[0]),
        x,
        axis=axes[0],
        alternatives=(
            Alternative(
                "missing_local_derivative",
                "the derivative of the logarithm, 1 over the sum, is left out of that of {site}",
                torch.exp,
            ),
            *other_axes,
        ),
    )
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
                "missing_cross_terms",
                "the sum over the entries is left out of the gradient of {site}",
                lambda a, b: a,
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
                    "wrong_axis",
                    f"the softmax of your gradient runs over axis {other}, the forward's over "
                    f"axis {axis}",
                    along(other),
                )
                for other in range(p[x].dim())
                if other != axis
            ],
            Alternative(
                "missing_cross_terms",
                "only the diagonal p(1 - p) of the Jacobian of {site} is used",
                diagonal,
            ),
            Alternative(
                "derivative_at_wrong_point",
                "softmax is applied twice in the gradient of {site}",
                lambda d, y, g, z: softmax_product(torch.softmax(y, axis), g, axis),
            ),
            Alternative(
                "missing_local_derivative",
                "the derivative of {site} is left out",
                lambda d, y, g, z: g,
            ),
            Alternative(
                "missing_local_derivative",
                "the factor p = {site} is left out before the bracket of p * (G - sum(G * p))",
                lambda d, y, g, z: d,
            ),
            Alternative(
                "applied_twice",
                "the factor p = {site} is multiplied in twice",
                lambda d, y, g, z: y * y * d,
            ),
            Alternative(
                "applied_twice",
                "the Jacobian of {site} is applied twice",
                lambda d, y, g, z: y * (y * d - (y * d * y).sum(axis, keepdim=True)),
            ),
            Alternative(
                "sign_error",
                "the sum is added, and must be subtracted, in the gradient of {site}",
                lambda d, y, g, z: y * (2 * g - d),
                "The gradient is p * (G - sum(G * p)), with p the softmax and G the upstream.",
            ),
            Alternative(
                "missing_cross_terms",
                "only p² is subtracted in the gradient of {site}, where a sum belongs",
                lambda d, y, g, z: y * g - y * y,
            ),
            Alternative(
                "other_variant",
                "this is the gradient for log_softmax, and the forward has {site}",
                lambda d, y, g, z: g - y * g.sum(axis, keepdim=True),
            ),
            Alternative(
                "missing_upstream",
                "the sum in the gradient of {site} lacks the upstream gradient",
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
    p.call(probability, "softmax", x)
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
                "softmax is applied twice in the gradient of {site}",
                lambda g, t, q, z: g - torch.softmax(q, axis) * g.sum(axis, keepdim=True),
            ),
            Alternative(
                "derivative_at_wrong_point",
                f"the gradient of {{site}} uses {p.describe(x)} where its softmax belongs",
                lambda g, t, q, z: g - z * g.sum(axis, keepdim=True),
            ),
            Alternative(
                "missing_local_derivative",
                f"the gradient of {{site}} uses exp({p.describe(x)}) where its softmax belongs",
                lambda g, t, q, z: g - z.exp() * g.sum(axis, keepdim=True),
            ),
            *[
                Alternative(
                    "wrong_axis",
                    f"the softmax of your gradient runs over axis {other}, the forward's over "
                    f"axis {axis}",
                    lambda g, t, q, z, o=other: g - torch.softmax(z, o) * g.sum(axis, keepdim=True),
                )
                for other in range(p[x].dim())
                if other != axis
            ],
            Alternative(
                "missing_cross_terms",
                "only the diagonal 1 - p of the Jacobian of {site} is used",
                lambda g, t, q, z: g * (1 - q),
            ),
            Alternative(
                "other_variant",
                "this is the gradient for softmax, and the forward has {site}",
                lambda g, t, q, z: q * (g - (g * q).sum(axis, keepdim=True)),
            ),
            Alternative(
                "missing_upstream",
                "the softmax in the gradient of {site} is not multiplied by the sum of upstream",
                lambda g, t, q, z: g - q,
            ),
            Alternative(
                "missing_local_derivative",
                "the derivative of {site} is left out",
                lambda g, t, q, z: g,
            ),
            *[
                Alternative(
                    "sign_error",
                    "one of the two terms of the gradient of {site} has the wrong sign",
                    rule,
                    LOG_SOFTMAX,
                )
                for rule in (lambda g, t, q, z: g + t, lambda g, t, q, z: -g - t)
            ],
            Alternative(
                "applied_twice",
                "the Jacobian of softmax is multiplied in once more: the gradient of {site} "
                "contains it already",
                lambda g, t, q, z: q * ((g - t) - ((g - t) * q).sum(axis, keepdim=True)),
            ),
            Alternative(
                "applied_twice",
                "p(1 - p), the diagonal of softmax's Jacobian, is multiplied in once more: the "
                "gradient of {site} contains it already",
                lambda g, t, q, z: (g - t) * q * (1 - q),
            ),
            Alternative(
                "missing_path",
                "the path through the sum of the exponentials of {site} is left out",
                lambda g, t, q, z: g,
            ),
            Alternative(
                "missing_target",
                "the target is not subtracted in the gradient of {site}",
                lambda g, t, q, z: -t,
            ),
            Alternative(
                "missing_cross_terms",
                "only the entry of the target gets a gradient in each row of {site}",
                lambda g, t, q, z: torch.where(g != 0, g - t, torch.zeros_like(g)),
            ),
        ),
    )
