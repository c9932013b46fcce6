"""The binary cross-entropy, of logits and of probabilities."""

from __future__ import annotations

import torch
from torch import Tensor

from proofread.gradients.graph.program import Alternative
from proofread.gradients.graph.rules.core import mul, rule, unbroadcast


def _of_logits(a: Tensor, b: Tensor) -> Tensor:
    """(1 - y) / (1 - z) - y / z, where the probability belongs in the place of z."""
    z = torch.logit(a)
    return (1 - b) / (1 - z) - b / z


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
                "sigmoid is applied twice in the gradient of {site}",
                lambda a, b: torch.sigmoid(a) - b,
            ),
            Alternative(
                "missing_local_derivative",
                "the sigmoid is left out of the gradient of {site}",
                lambda a, b: torch.logit(a) - b,
            ),
            Alternative(
                "applied_twice",
                "the derivative of sigmoid is multiplied in as well: the gradient of {site} "
                "is sigmoid minus target, and that's all",
                lambda a, b: (a - b) * a * (1 - a),
            ),
            Alternative(
                "missing_local_derivative",
                "the derivative of sigmoid is left out",
                lambda a, b: (a - b) / (a * (1 - a)),
            ),
            *[
                Alternative(
                    "derivative_at_wrong_point",
                    "the formula for probabilities is given the logits in the gradient of {site}",
                    formula,
                )
                for formula in (_of_logits, lambda a, b: _of_logits(a, b) * a * (1 - a))
            ],
            Alternative(
                "missing_path",
                "only the term of the targets 1 is there",
                lambda a, b: b * (a - 1),
            ),
            Alternative(
                "missing_path",
                "only the term of the targets 0 is there",
                lambda a, b: (1 - b) * a,
            ),
            Alternative(
                "sign_error",
                "one of the two terms, for the targets 0 and 1, has the wrong sign",
                lambda a, b: b * (a - 1) - (1 - b) * a,
            ),
            Alternative(
                "sign_error", "the target is added, and must be subtracted", lambda a, b: a + b
            ),
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
                "the denominator p(1 - p) is left out of the gradient of {site}",
                lambda a, b: a - b,
            ),
            Alternative(
                "missing_path",
                "only the term of the targets 1 is there",
                lambda a, b: -b / a,
            ),
            Alternative(
                "missing_path",
                "only the term of the targets 0 is there",
                lambda a, b: (1 - b) / (1 - a),
            ),
            Alternative(
                "sign_error",
                "one of the two terms, for the targets 0 and 1, has the wrong sign",
                lambda a, b: -b / a - (1 - b) / (1 - a),
            ),
            Alternative(
                "derivative_at_wrong_point",
                "sigmoid is applied to what is a probability already",
                lambda a, b: torch.sigmoid(a) - b,
            ),
            Alternative(
                "missing_target",
                "the target is not subtracted in the gradient of {site}",
                lambda a, b: 1 / (1 - a),
            ),
        ),
    )
    odds = p.emit("log_odds", lambda a: torch.log1p(-a) - torch.log(a), q)
    return [
        (q, unbroadcast(p, mul(p, g, local, "loss"), q)),
        *([(y, mul(p, g, odds, "loss"))] if p.is_float(y) else []),
    ]
