"""Inverses and determinants of square matrices."""

from __future__ import annotations

import torch

from proofread.gradients.graph.lowerings.core import lowers, opaque
from proofread.gradients.graph.program import Program, Ref


@lowers("linalg_inv_ex")
def _inverse(p, args, kwargs, result):
    return [_emit_inverse(p, args[0]), None]


@lowers("_linalg_solve_ex")
def _solve(p, args, kwargs, result):
    """A solution is the inverse times the right side, whose gradients are those of a product."""
    matrix, right = args
    _, *factors = result
    if kwargs.get("left") is False or p[matrix].dim() != 2 or p[right].dim() > 2:
        return opaque(p, args, kwargs, result)
    inverse = _emit_inverse(p, matrix)
    if p[right].dim() == 2:
        found = p.emit("mm", torch.matmul, inverse, right)
    else:
        column = p.emit("view", lambda v: v.unsqueeze(-1), right)
        product = p.emit("mm", torch.matmul, inverse, column)
        found = p.emit("view", lambda v: v.squeeze(-1), product)
    return [p.call(found, "solve", matrix, right), *[None] * len(factors)]


@lowers("_linalg_det")
def _determinant(p, args, kwargs, result):
    return [p.emit("det", torch.linalg.det, args[0], called="det"), None, None]


@lowers("_linalg_slogdet")
def _log_determinant(p, args, kwargs, result):
    sign = p.emit("opaque", lambda a: torch.linalg.slogdet(a)[0], args[0], called="sign")
    size = p.emit("logabsdet", lambda a: torch.linalg.slogdet(a)[1], args[0], called="logdet")
    return [sign, size, None, None]


def _emit_inverse(p: Program, matrix: Ref) -> Ref:
    return p.emit("inverse", torch.linalg.inv, matrix, called="inv")
