"""Inverses and determinants of square matrices."""

from __future__ import annotations

import torch

from proofread.gradients.graph.program import Alternative, Program, Ref
from proofread.gradients.graph.rules.arithmetic import flipped
from proofread.gradients.graph.rules.core import mul, rule


@rule("inverse")
def _inverse(p, step, out, g):
    """From dY = -Y dA Y: the gradient of A is -Y.T @ g @ Y.T."""
    turned = flipped(p, out)
    right = p.emit("mm", torch.matmul, g, turned, role="operand")
    both = p.emit(
        "mm",
        torch.matmul,
        turned,
        right,
        role="operand",
        alternatives=(
            Alternative(
                "transposed_operand",
                "neither of the two inverses in the gradient of {site} is transposed",
                lambda y, r: y.mT @ (r @ torch.linalg.inv(y)) @ y.mT,
            ),
        ),
    )
    return [(step.arguments[0], mul(p, both, -1, "sign"))]


@rule("det")
def _determinant(p, step, out, g):
    scaled = mul(p, _gradient_of_log(p, step), _over_matrix(p, out), "operand")
    return [(step.arguments[0], mul(p, _over_matrix(p, g), scaled, "local"))]


@rule("logabsdet")
def _log_determinant(p, step, out, g):
    return [(step.arguments[0], mul(p, _over_matrix(p, g), _gradient_of_log(p, step), "local"))]


def _gradient_of_log(p: Program, step) -> Ref:
    inverse = p.emit("inverse", torch.linalg.inv, step.arguments[0], called="inv")
    return flipped(p, inverse)


def _over_matrix(p: Program, number: Ref) -> Ref:
    return p.emit("view", lambda v: v[..., None, None], number)
