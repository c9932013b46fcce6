"""Another tensor in the forward: transposed, flipped, left out, or one in the place of another."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from proofread.gradients.counterfactual.masks import is_blocking, other_mask
from proofread.gradients.graph.program import Ref, Step
from proofread.gradients.planted.candidates import (
    COUNTERFACTUAL,
    FORWARDS,
    REMOTE,
    SWAP,
    UNREAD,
    Candidate,
    Enumeration,
    plants,
)
from proofread.gradients.planted.products import transposed_said
from proofread.gradients.sentences import SQUARE


@plants("mm", into=FORWARDS)
def _forward_mm(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    for position, argument in enumerate(step.arguments):
        shape = e.p.shape(argument)
        if shape[-1] == shape[-2]:
            yield e.reading(
                i,
                position,
                "transposed_operand",
                transposed_said(e, argument),
                COUNTERFACTUAL + 2,
                lambda values, r=argument: values[r.i].mT,
                hint=SQUARE,
            )
    yield from _without_product(e, i, step)


@plants("mm", into=UNREAD)
def _without_product(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """A product with a square matrix, left out of the forward and of its backward."""
    for position, other in enumerate(step.arguments):
        kept = step.arguments[1 - position]
        if e.active >> other.i & 1 or not e.active >> kept.i & 1:
            continue
        if e.p.shape(kept) != e.p.shape(Ref(i)):
            continue
        candidate = e.instead(
            i,
            "missing_local_derivative",
            f"the product with {e.name(other)} is left out",
            COUNTERFACTUAL,
            lambda a, b, k=1 - position: (a, b)[k].clone(),
        )
        for j in e.used:
            back = e.p.steps[j]
            if back.about == i and back.kind == "mm" and back.details.get("operand") == other.i:
                carried = back.arguments[1 - position]
                candidate.changes[j] = lambda values, r=carried: values[r.i].clone()
        if len(candidate.changes) > 1:
            yield candidate


@plants("conv", into=FORWARDS)
def _forward_conv(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    yield e.instead(
        i,
        "conv_flip",
        f"this is the gradient for a flipped kernel, and {e.p.describe(Ref(i))} does not flip it",
        COUNTERFACTUAL,
        lambda x, w: step.function(x, w.flip(list(range(2, w.dim())))),
    )


@plants("leaf", "captured", into=FORWARDS)
def _forward_leaf(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    value = e.p.values[i]
    if i == e.p.wrt.i or not isinstance(value, Tensor) or not e.p.is_float(Ref(i)):
        return
    loss = e.p[e.p.output].dim() == 0
    if loss and value.dim():
        yield e.plant(
            i,
            "missing_target",
            f"the tensor {e.name(Ref(i))} is left out",
            REMOTE,
            lambda values: torch.zeros_like(values[i]),
            hint="Your gradient is that of a forward where it is 0 everywhere.",
        )
    if value.dim() and is_blocking(value):
        yield from other_mask(e, i, value)
    if value.dim() >= 2 and value.shape[-1] == value.shape[-2]:
        yield e.plant(
            i,
            "transposed_operand",
            f"the factor {e.name(Ref(i))} is transposed, and must not be",
            REMOTE,
            lambda values: values[i].mT,
            hint=SQUARE,
        )
    for j, other in enumerate(e.p.values[: e.start]):
        if j == i or e.p.steps[j].kind != "leaf" or not e.p.is_float(Ref(j)) or not value.dim():
            continue
        if other.dim() == value.dim() == 2 and other.mT.shape == value.shape:
            yield e.plant(
                i,
                "wrong_operand",
                f"your gradient uses the transpose of {e.name(Ref(j))} where {e.name(Ref(i))} belongs",
                SWAP + 3,
                lambda values, j=j: values[j].mT,
            )
        if other.shape != value.shape:
            continue
        yield e.plant(
            i,
            "wrong_operand",
            f"your gradient uses {e.name(Ref(j))} where {e.name(Ref(i))} belongs",
            SWAP + 3,
            lambda values, j=j: values[j] * 1.0,
        )
