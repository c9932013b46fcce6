"""Mistakes with the upstream gradient: left out, twice, one number for all of it, handed back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from proofread.gradients.graph.program import Ref
from proofread.gradients.planted.candidates import (
    LOCAL,
    SWAP,
    Candidate,
    Enumeration,
)


def _first(t: Tensor) -> Tensor:
    return t.reshape(-1)[0]


ENTRYWISE = ("add", "sub", "mul", "div", "pow", "unary", "where", "condition", "cast")
COLLAPSES: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = (
    ("the mean", lambda t: t.mean()),
    ("the first element", _first),
    ("the sum", lambda t: t.sum()),
    ("the last element", lambda t: t.reshape(-1)[-1]),
    ("the largest element", lambda t: t.max()),
    ("the first row", lambda t: t[:1]),
    ("the mean over the rows", lambda t: t.mean(0, keepdim=True)),
    ("the mean over the last axis", lambda t: t.mean(-1, keepdim=True)),
    ("the first column", lambda t: t[..., :1]),
    ("the sum over the last axis", lambda t: t.sum(-1, keepdim=True)),
    ("the norm", lambda t: t.norm()),
)


def upstream_mistakes(e: Enumeration) -> Iterator[Candidate]:
    i = e.p.upstream.i
    upstream = e.p.values[i]
    yield e.plant(
        i,
        "missing_upstream",
        "the upstream gradient is not multiplied in at all",
        LOCAL - 1,
        lambda values: torch.ones_like(values[i]),
    )
    yield e.plant(
        i,
        "applied_twice",
        "the upstream gradient is multiplied in twice",
        LOCAL,
        lambda values: values[i] ** 2,
    )
    if e.p.shape(e.p.result) == tuple(upstream.shape):
        yield e.plant(
            e.p.result.i,
            "applied_twice",
            "the upstream gradient is multiplied in once more at the end",
            LOCAL + 4,
            lambda values, step=e.p.steps[e.p.result.i]: step.run(values) * values[i],
        )
    if upstream.dim():
        for what, collapse in COLLAPSES:
            yield e.plant(
                i,
                "upstream_collapsed",
                f"{what} of the upstream gradient stands in for all of it",
                LOCAL + (8 if " over " in what else 0),
                lambda values, f=collapse: f(values[i]).expand_as(values[i]),
            )


def stopped(e: Enumeration) -> Iterator[Candidate]:
    """The gradient of a later value, handed back as it is."""
    p = e.p
    for i in sorted(e.used):
        step = p.steps[i]
        if not e.start < i < p.result.i or not e.carries >> i & 1:
            continue
        if p.shape(Ref(i)) == p.shape(p.result) and step.kind != "view":
            yield e.plant(
                p.result.i,
                "missing_local_derivative",
                f"the gradient is followed back to {e.site(i)} only",
                SWAP + 4,
                lambda values, i=i: values[i] * 1.0,
            )


def identity(e: Enumeration) -> Iterator[Candidate]:
    """The upstream itself, where the whole forward works entry by entry."""
    p = e.p
    if p.shape(p.output) != p.shape(p.wrt) or not p[p.output].dim():
        return
    path = [p.steps[i] for i in range(p.wrt.i + 1, p.output.i + 1) if e.active >> i & 1]
    if not path or any(step.kind not in ENTRYWISE for step in path):
        return
    branches = any(step.kind == "where" for step in path)
    if not branches and any(step.role == "fork" for step in p.steps):
        return  # a value used twice: the other use is what is missing
    products = [p.steps[i] for i in e.used if p.steps[i].kind == "mul"]
    roles = {step.role for step in products}
    given = all(
        not (isinstance(r, Ref) and e.active >> r.i & 1)
        for step in products
        for r in step.arguments[1:2]
    )
    if branches:
        labels = ["missing_local_derivative", "missing_mask"]
    elif roles & {"mask", "activation_mask"}:
        labels = ["missing_mask", "missing_local_derivative"]
    elif roles & {"local", "loss"} or ("operand" in roles and not given):
        labels = ["missing_local_derivative"]
    else:
        labels = ["missing_scale_factor", "missing_local_derivative"]
    lost = {"missing_mask": "mask", "missing_scale_factor": "factor"}.get(labels[0], "derivative")
    what = f"your gradient is upstream itself: the {lost} of {p.describe(p.output)} is left out"
    yield e.plant(
        p.result.i,
        labels[0],
        what,
        LOCAL - 2,
        lambda values: values[p.upstream.i] * 1.0,
        tuple(labels[1:]),
    )
