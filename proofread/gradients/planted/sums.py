"""Mistakes where gradients are added up: over an axis, or where an entry is read more than once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from proofread.gradients.graph.naming import axes_said
from proofread.gradients.graph.program import Step
from proofread.gradients.graph.rules.normalise import other_axes
from proofread.gradients.planted.candidates import (
    LOCAL,
    Candidate,
    Enumeration,
    plants,
    reduced,
)


@plants("sum", "mean")
def _sum(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """A reduction in the backward: left out, over other axes, averaged, or only one row."""
    axes, keep = step.details["axes"], step.details["keep"]
    source = step.arguments[0]
    rank, here = e.p[source].dim(), f"in the gradient of {e.site(i)}"
    count = math.prod(e.p.shape(source)[a] for a in axes)
    hint = ""
    if step.role == "broadcast":
        yield from _broadcast_sum(e, i, step, axes)
        shape = e.p.shape(e.p.wrt)
        hint = f"{e.p.describe(e.p.wrt)} has shape {shape}: sum over the axes along which it is reused."
    if step.kind == "sum":
        yield e.instead(
            i,
            "extra_mean",
            f"your gradient averages over {axes_said(axes)}, and must sum"
            if step.role == "broadcast"
            else f"a mean over {axes_said(axes)} stands where a sum belongs {here}",
            LOCAL,
            lambda x: step.function(x) / count,
        )
    for other in other_axes(axes, rank):
        label = "wrong_axis"
        what = _other_axes_said(other, axes, "" if step.role == "broadcast" else here)
        yield e.instead(
            i,
            label,
            what,
            LOCAL,
            lambda x, o=other: reduced(x, step, o, True),
            hint=hint,
        )
        if not keep or step.role == "broadcast":
            yield e.instead(
                i,
                label,
                what,
                LOCAL,
                lambda x, o=other: reduced(x, step, o, False),
                hint=hint,
            )
        if step.role == "broadcast" and len(other) == rank:
            yield e.instead(
                i,
                label,
                f"your gradient sums over all axes, and must sum over {axes_said(axes)} only",
                LOCAL,
                lambda x: x.sum().expand(step.details["shape"]),
            )
        if step.role == "broadcast":
            yield e.instead(
                i,
                label,
                f"your gradient averages over {axes_said(other)}, and must sum over "
                f"{axes_said(axes)}",
                LOCAL + 2,
                lambda x, o=other: x.mean(o),
            )
    if keep and step.role != "broadcast":
        yield e.instead(
            i,
            "wrong_axis",
            f"the sum {here} loses a dimension: it needs keepdim=True",
            LOCAL + 2,
            lambda x: reduced(x, step, axes, False),
            hint="Without keepdim, the next operation broadcasts over other axes.",
        )
        yield e.instead(
            i,
            "missing_cross_terms",
            f"the sum over {axes_said(axes)} is left out {here}",
            LOCAL,
            lambda x: x,
            ("missing_broadcast_sum",),
        )


def _other_axes_said(other: tuple[int, ...], axes: tuple[int, ...], place: str) -> str:
    """Say which axes a sum runs over, and which it must run over."""
    if place:
        return f"the sum {place} runs over {axes_said(other)}, and must run over {axes_said(axes)}"
    if set(other) < set(axes):
        return f"your gradient sums over {axes_said(other)} only: sum over {_rest(axes, other)} too"
    return f"your gradient sums over {axes_said(other)}, and must sum over {axes_said(axes)}"


def _rest(axes: tuple[int, ...], some: tuple[int, ...]) -> str:
    return axes_said(tuple(a for a in axes if a not in some))


def _broadcast_sum(e, i, step, axes) -> Iterator[Candidate]:
    shape = step.details["shape"]
    operands = [r for r in e.p.steps[step.about].operands() if e.p.shape(r) == shape]
    named = e.name(operands[-1]) if operands else e.p.describe(e.p.wrt)
    mine = not operands or operands[-1] == e.p.wrt
    summed = "your gradient" if mine else f"the gradient with respect to {named}"
    left_out = f"{summed} is not summed over {axes_said(axes)}"
    yield e.instead(
        i,
        "missing_broadcast_sum",
        left_out,
        LOCAL,
        lambda x: x,
    )
    yield Candidate(
        "missing_broadcast_sum",
        left_out,
        LOCAL + 1,
        (e.tag, i, "returned"),
        e.p,
        {e.p.result.i: lambda values: values[step.arguments[0].i]},
    )
    for size in range(1, len(axes)):
        for part in itertools.combinations(axes, size):
            for keep in (True, False):
                yield e.instead(
                    i,
                    "missing_broadcast_sum",
                    f"{summed} is summed over {axes_said(part)} only: sum over "
                    f"{_rest(axes, part)} too",
                    LOCAL,
                    lambda x, a=part, k=keep: x.sum(a, keepdim=k),
                )
    for said, place in (("last", -1), ("first", 0)):
        yield e.instead(
            i,
            "overwrite_not_accumulate",
            f"only the {said} use of {named} counts",
            LOCAL,
            lambda x, k=place: _one_of(x, axes, k).reshape(shape),
        )
        if len(axes) > 1:
            yield e.instead(
                i,
                "overwrite_not_accumulate",
                f"only the {said} entry of axis {axes[0]} counts",
                LOCAL,
                lambda x, k=place: _one_of(x, axes[:1], k).sum(axes, keepdim=True).reshape(shape),
            )


def _one_of(x: Tensor, axes, place: int) -> Tensor:
    for axis in axes:
        x = x.select(axis, place).unsqueeze(axis)
    return x


@plants("scatter")
def _scatter(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """Gradients that go back to where they were read: they must add up."""
    shape = step.details["shape"]
    if not step.details["repeated"]:
        return
    site = e.site(i)
    what = f"an entry that {site} reads more than once keeps only its"

    def written(gradient, index, order):
        flat = gradient.new_zeros(math.prod(shape))
        for place, value in order(list(zip(index.tolist(), gradient.reshape(-1), strict=True))):
            flat[place] = value
        return flat.reshape(shape)

    yield e.instead(
        i,
        "overwrite_not_accumulate",
        f"{what} last contribution",
        LOCAL,
        lambda g, k: written(g, k, lambda pairs: pairs),
    )
    yield e.instead(
        i,
        "overwrite_not_accumulate",
        f"{what} first contribution",
        LOCAL,
        lambda g, k: written(g, k, lambda pairs: pairs[::-1]),
    )

    read = e.p.steps[step.about].operands()[1:]
    rank = max((e.p[r].dim() for r in read if not e.p.is_float(r)), default=0)
    for axis in range(rank if rank > 1 else 0):

        def by_slices(gradient, index, axis=axis):
            flat = gradient.new_zeros(math.prod(shape))
            parts = zip(
                gradient.unbind(axis), index.reshape(gradient.shape).unbind(axis), strict=True
            )
            for part, places in parts:
                flat += written(part, places.reshape(-1), lambda pairs: pairs).reshape(-1)
            return flat.reshape(shape)

        yield e.instead(
            i,
            "overwrite_not_accumulate",
            f"of the entries that {site} reads more than once along axis "
            f"{', '.join(str(k) for k in range(rank) if k != axis)}, the last one counts alone",
            LOCAL,
            by_slices,
            hint="x[ids] += g adds up no repeated ids: use index_add_ or index_put_(accumulate=True).",
        )

    def averaged(gradient, index):
        sums = gradient.new_zeros(math.prod(shape)).index_add(0, index, gradient.reshape(-1))
        uses = torch.bincount(index, minlength=math.prod(shape)).clamp_min(1)
        return (sums / uses).reshape(shape)

    yield e.instead(
        i,
        "extra_mean",
        f"what comes back to an entry that {site} reads more than once is averaged, and must be "
        "added",
        LOCAL,
        averaged,
    )
