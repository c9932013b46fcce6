"""Mistakes in a matrix product: transposes, one row only, the sum left out."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from proofread.gradients.graph.program import Ref, Step
from proofread.gradients.planted.candidates import (
    LOCAL,
    SWAP,
    Candidate,
    Enumeration,
    plants,
)
from proofread.gradients.sentences import SQUARE


@plants("mm")
def _mm(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """A matrix product in the backward: transposes, one row only, the sum left out."""
    a, b = step.arguments
    site = e.site(i)
    shape_a, shape_b = e.p.shape(a), e.p.shape(b)
    turned = _turned_after(e, i)
    for position, shape in ((0, shape_a), (1, shape_b)):
        if shape[-1] == shape[-2]:
            yield e.reading(
                i,
                position,
                "transposed_operand",
                transposed_said(e, step.arguments[position], turned),
                LOCAL,
                lambda values, r=step.arguments[position]: values[r.i].mT,
                hint=SQUARE,
            )
    yield e.instead(
        i,
        "transposed_operand",
        "your product comes out transposed"
        if i == e.p.result.i
        else f"the product in the gradient of {site} comes out transposed",
        LOCAL,
        lambda x, y: (x @ y).mT,
    )
    yield e.instead(
        i,
        "transposed_operand",
        f"the two factors of the product in the gradient of {site} are exchanged",
        LOCAL,
        lambda x, y: y @ x,
    )
    inner = shape_a[-1]
    operand = step.details.get("operand", -1)
    summed = operand == e.p.steps[step.about].arguments[0].i if operand >= 0 else False
    if summed:
        yield from _summed_mm(e, i, inner, site)
    yield e.instead(
        i,
        "extra_mean",
        f"your gradient divides by {inner}, and {site} averages nothing",
        LOCAL,
        lambda x, y: (x @ y) / inner,
    )
    yield e.instead(
        i,
        "missing_broadcast_sum",
        f"the products in the gradient of {site} are not summed",
        LOCAL,
        _unsummed,
    )
    yield e.instead(
        i,
        "missing_broadcast_sum",
        f"a product entry by entry stands where the gradient of {site} has a matrix product",
        SWAP,
        lambda x, y: x * y,
    )
    yield e.instead(
        i,
        "missing_broadcast_sum",
        f"a product entry by entry stands where the gradient of {site} has a matrix product",
        SWAP,
        lambda x, y: x.mT * y,
    )


def _turned_after(e: Enumeration, i: int) -> bool:
    """Tell whether the result of a product is transposed, as in dK = (Q.T @ dS).T."""
    for j in range(i + 1, e.p.result.i + 1):
        step = e.p.steps[j]
        if Ref(i) in step.operands():
            if step.kind != "view":
                return _swaps_last(step)
            i = j
    return False


def _swaps_last(step: Step) -> bool:
    order = tuple(step.details.get("order", ()))
    return step.kind == "permute" and order[-2:] == (len(order) - 1, len(order) - 2)


def transposed_said(e: Enumeration, ref: Ref, turned: bool = False) -> str:
    """Say of an operand whose transposition is wrong what it must be; `turned` as the product."""
    source, flips = ref, turned
    while e.p.steps[source.i].kind in ("permute", "view", "expand"):
        step = e.p.steps[source.i]
        if step.kind == "permute":
            if not _swaps_last(step):
                break
            flips = not flips
        source = step.operands()[0]
    named = e.name(source) if e.carries >> source.i & 1 else f"the factor {e.name(source)}"
    return (
        f"{named} must be transposed, and is not"
        if flips
        else f"{named} is transposed, and must not be"
    )


def _unsummed(x: Tensor, y: Tensor) -> Tensor:
    """Every product of a matrix product, the summed axis first."""
    if x.numel() * y.shape[-1] > 10_000_000:
        raise ValueError("too large to hold")
    products = x.unsqueeze(-1) * y.unsqueeze(-3)
    return products.transpose(0, 1) if x.dim() == 2 else products


def _summed_mm(e: Enumeration, i: int, inner: int, site: str) -> Iterator[Candidate]:
    blocks = [1, *sorted(k for k in e.sizes if inner % k == 0 and k < inner)]
    pieces = [("last", k, slice(-k, None)) for k in blocks]
    pieces += [("first", k, slice(k)) for k in blocks]
    for said, size, rows in pieces:
        counted = f"{size} of the {inner} rows count" if size > 1 else f"of the {inner} rows counts"
        yield e.instead(
            i,
            "overwrite_not_accumulate",
            f"only the {said} {counted} in the gradient of {site}",
            LOCAL,
            lambda x, y, r=rows: x[..., r] @ y[..., r, :],
        )
    yield e.instead(
        i,
        "wrong_axis",
        f"the rows are summed before the product in the gradient of {site}: the product sums them",
        LOCAL + 2,
        lambda x, y: x.sum(-1, keepdim=True) @ y.sum(-2, keepdim=True),
        ("upstream_collapsed",),
    )
    yield e.instead(
        i,
        "wrong_axis",
        f"the rows are averaged before the product in the gradient of {site}: the product sums "
        "them",
        LOCAL + 2,
        lambda x, y: x.mean(-1, keepdim=True) @ y.mean(-2, keepdim=True),
        ("extra_mean",),
    )
    yield e.instead(
        i,
        "upstream_collapsed",
        f"the mean of the rows stands for each row in the gradient of {site}",
        LOCAL + 3,
        lambda x, y: x.mean(-1, keepdim=True) @ y.sum(-2, keepdim=True),
        ("extra_mean",),
    )


@plants("permute")
def _permute(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """Axes that must be exchanged on the way back, and are only reshaped."""
    if not e.carries >> i & 1:
        return
    shape = e.p.shape(Ref(i))
    yield e.instead(
        i,
        "transposed_operand",
        f"the axes of {e.site(i)} are reshaped on the way back, and must be exchanged",
        LOCAL + 1,
        lambda x: x.reshape(shape),
    )
