"""Another mask or condition in the forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from proofread.gradients.graph.program import Ref, Step, resolve
from proofread.gradients.planted.candidates import (
    COUNTERFACTUAL,
    FORWARDS,
    Candidate,
    Enumeration,
    plants,
)


@plants("where", into=FORWARDS)
def _forward_where(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    if _only_bounds(e, step):
        return
    said = f"the mask of {e.p.describe(Ref(i))}"
    plans = [
        ("missing_mask", f"{said} is left out", lambda c: torch.zeros_like(c)),
        ("missing_mask", f"{said} is left out", lambda c: torch.ones_like(c)),
    ]
    # A mask that is open or closed everywhere is no mask.
    if e.p[step.arguments[0]].unique().numel() > 1:
        plans.append(("wrong_mask", f"{said} is inverted", lambda c: ~c))
    shape = e.p.shape(step.arguments[0])
    if len(shape) >= 2 and shape[-1] == shape[-2]:
        eye = torch.eye(shape[-1], dtype=torch.bool)
        plans += [
            ("wrong_mask", f"{said} is transposed", lambda c: c.mT),
            ("wrong_mask", f"{said} differs on the diagonal", lambda c: c ^ eye),
            *[
                ("wrong_mask", f"{said} is off by one diagonal", moved)
                for moved in _moved_triangles(e.p[step.arguments[0]])
            ],
        ]
    elif shape and (len(shape) == 1 or 1 in shape[-2:]):
        turned = lambda c: c.mT if c.dim() > 1 else c.unsqueeze(-1)
        plans.append(("wrong_mask", f"{said} runs along the other axis", turned))
    for label, what, other in plans:
        yield _with_condition(e, i, label, what, other)


def _only_bounds(e: Enumeration, step: Step) -> bool:
    """Tell a bound on what no gradient passes, such as that of a count of at least 1."""
    if step.kind != "where" or step.needs & e.active:
        return False
    condition, *branches = step.operands()
    return bool({*e.p.steps[condition.i].operands()} & {*branches})


def _with_condition(e: Enumeration, i: int, label: str, what: str, other) -> Candidate:
    """Plant another condition in a `where` and in the masks of its backward."""
    candidate = e.instead(
        i, label, what, COUNTERFACTUAL, lambda c, a, b: torch.where(other(c), a, b)
    )
    for j in sorted(e.used):
        step = e.p.steps[j]
        if step.about == i and step.kind == "condition":

            def change(values, step=step):
                return step.function(other(resolve(step.arguments[0], values)))

            candidate.changes[j] = change
    return candidate


@plants("condition", into=FORWARDS)
def _forward_condition(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    named = e.p.describe(Ref(i))
    said = f"the condition on {e.name(step.operands()[0])}"
    if not named.startswith("a value"):
        said = f"the condition {named}"
    into = [s for s in e.p.steps[: e.start] if Ref(i) in s.operands()]
    if e.p.values[i].dtype != torch.bool or (into and all(_only_bounds(e, s) for s in into)):
        return
    if e.p.values[i].unique().numel() > 1:
        yield e.instead(
            i, "wrong_mask", f"{said} is inverted", COUNTERFACTUAL, lambda *a: ~step.function(*a)
        )
    for value in (True, False):
        yield e.instead(
            i,
            "missing_mask",
            f"{said} has no effect in your gradient",
            COUNTERFACTUAL + 1,
            lambda *a, v=value: torch.full_like(step.function(*a), v),
        )


def _moved_triangles(mask: Tensor) -> list[Callable[[Tensor], Tensor]]:
    """Return what makes of a triangular mask the one with a diagonal more or less."""
    ones = torch.ones_like(mask)
    for triangle in (torch.tril, torch.triu):
        for k in (-1, 0, 1):
            if torch.equal(mask, triangle(ones, k)):
                moved = [
                    lambda m, t=triangle, k=other: t(torch.ones_like(m), k)
                    for other in (k - 1, k + 1)
                ]
                return [*moved, *[lambda m, f=f: _with_its_full_rows(m, f(m)) for f in moved]]
    return []


def _with_its_full_rows(mask: Tensor, moved: Tensor) -> Tensor:
    """Give a row that is all blocked what it had: a softmax of nothing is not a number."""
    full = (moved == moved[..., :1]).all(-1, keepdim=True)
    return torch.where(full, mask, moved)


def is_blocking(value: Tensor) -> bool:
    """Tell a mask to multiply by, of 0 and one other number, or one to add, of 0 and -inf."""
    return bool((value == 0).any()) and value.unique().numel() == 2


def other_mask(e: Enumeration, i: int, value: Tensor) -> Iterator[Candidate]:
    """A mask that the whole backward takes wrongly, also where it counts its entries."""
    passes = value.max()  # 0 in a mask to add
    blocks = value.min()
    open_ = value == passes
    named = e.name(Ref(i))
    said = named if named.startswith(("the ", "a ")) else f"the mask {named}"
    if named == "mask":
        said = "the mask"
    plans = [
        ("missing_mask", f"{said} is left out", torch.ones_like(open_)),
        ("wrong_mask", f"{said} is inverted", ~open_),
    ]
    if value.dim() >= 2 and value.shape[-1] == value.shape[-2]:
        plans.append(("wrong_mask", f"{said} is transposed", open_.mT))
        said = f"{said} is off by one diagonal"
        plans += [("wrong_mask", said, moved(open_)) for moved in _moved_triangles(open_)]
    for label, what, other in plans:
        yield e.plant(
            i,
            label,
            what,
            COUNTERFACTUAL - 4,
            lambda values, o=other: torch.where(o, passes, blocks),
        )


def masked_softmax(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """A causal mask in the backward of an attention that has none."""
    (scores,), shape = step.operands(), e.p.shape(Ref(i))
    if len(shape) < 2 or shape[-1] != shape[-2] or step.details["axis"] != len(shape) - 1:
        return
    if not e.p[scores].isfinite().all():
        return  # there is a mask
    blocked = torch.ones(shape[-2:], dtype=torch.bool).triu(1)
    yield e.instead(
        i,
        "wrong_mask",
        f"a causal mask is applied to {e.p.describe(scores)}, and the forward has none",
        COUNTERFACTUAL,
        lambda z: step.function(z.masked_fill(blocked, -torch.inf)),
    )
