"""Mistakes in a textbook formula, as a whole: one side of a difference lost, the diagonal alone used."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from proofread.gradients.graph.program import Ref, Step
from proofread.gradients.planted.candidates import (
    LOCAL,
    TEXTBOOK,
    Candidate,
    Enumeration,
    plants,
)


@plants("sub")
def _sub(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """A difference in a textbook formula: one side left out, or added."""
    named, here = e.name(step.arguments[1]), f"in the gradient of {e.site(i)}"
    if step.role == "target":
        yield e.instead(
            i, "missing_target", f"the target {named} is not subtracted", TEXTBOOK, lambda a, b: a
        )
        yield e.instead(
            i, "missing_path", f"only the target {named} is left", LOCAL, lambda a, b: -b
        )
    elif step.role == "cross":
        yield e.instead(
            i,
            "missing_path",
            f"the sum is not subtracted {here}",
            LOCAL,
            lambda a, b: a,
            ("missing_cross_terms",),
        )
        yield e.instead(i, "missing_path", f"only the sum is left {here}", LOCAL, lambda a, b: -b)
        yield e.instead(
            i,
            "sign_error",
            f"the sum is added, and must be subtracted, {here}",
            TEXTBOOK,
            lambda a, b: a + b,
        )
    elif step.role == "centre":
        yield e.instead(
            i, "norm_mean_term_missing", f"the mean is not subtracted {here}", LOCAL, lambda a, b: a
        )


@plants("vjp")
def _vjp(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """A step without a textbook rule."""
    called = e.site(i)
    if e.p.shape(Ref(i)) != e.p.shape(step.arguments[0]):
        return
    yield e.instead(
        i,
        "missing_local_derivative",
        f"the derivative of {called} is left out",
        LOCAL,
        lambda g, *rest: g,
        ("missing_cross_terms",),
    )
    yield e.instead(
        i,
        "applied_twice",
        f"the derivative of {called} is applied twice",
        LOCAL,
        lambda g, *rest: step.function(step.function(g, *rest), *rest),
    )
    if e.p[Ref(i)].numel() <= 64:
        yield e.instead(
            i,
            "missing_cross_terms",
            f"only the diagonal of the Jacobian of {called} is used",
            LOCAL,
            lambda g, *rest: _diagonal(step.function, g, rest),
        )


def _diagonal(product: Callable, g: Tensor, rest) -> Tensor:
    unit = torch.eye(g.numel(), dtype=g.dtype)
    rows = [product(row.reshape(g.shape), *rest).reshape(-1)[k] for k, row in enumerate(unit)]
    return g * torch.stack(rows).reshape(g.shape)
