"""Another function in the forward: a relative, another variance, another axis, another average."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from proofread.gradients.counterfactual.masks import masked_softmax
from proofread.gradients.graph.naming import axes_said
from proofread.gradients.graph.program import Program, Ref, Step
from proofread.gradients.graph.rules.normalise import other_axes
from proofread.gradients.graph.unary import UNARY, mistaken
from proofread.gradients.planted.candidates import (
    COUNTERFACTUAL,
    FORWARDS,
    Candidate,
    Enumeration,
    plants,
    reduced,
)


@plants("unary", into=FORWARDS)
def _forward_unary(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    name = step.details["called"]
    root = name in ("sqrt", "rsqrt")
    if root:
        yield e.instead(
            i,
            "wrong_power",
            f"the root in {e.p.describe(Ref(i))} is left out",
            COUNTERFACTUAL,
            lambda z, n=name: _unrooted(z, n),
        )
        yield e.instead(
            i,
            "wrong_power",
            f"the root of {e.p.describe(Ref(i))} is taken twice",
            COUNTERFACTUAL + 1,
            lambda z: step.function(step.function(z)),
        )
    elif e.active >> i & 1:
        yield e.instead(
            i,
            "missing_local_derivative",
            f"the derivative of {e.p.describe(Ref(i))} is left out",
            COUNTERFACTUAL + 1,
            lambda z: z,
        )
    spec = step.details.get("spec") or UNARY[name]
    for relative in spec.relatives:
        yield e.instead(
            i,
            "other_variant",
            mistaken(relative, name),
            COUNTERFACTUAL + 2,
            UNARY[relative].function,
        )


def _unrooted(z: Tensor, name: str) -> Tensor:
    return z if name == "sqrt" else 1 / z


@plants("var", into=FORWARDS)
def _forward_var(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    axes, keep = step.details["axes"], step.details["keep"]
    other = 1 - step.details["correction"]
    said = "unbiased" if other else "biased"
    count = math.prod(e.p.shape(step.arguments[0])[a] for a in axes)
    if count > 1:
        yield e.rescaled(
            i,
            "other_variant",
            f"this is the gradient for the {said} variance, and {e.p.describe(Ref(i))} is the other",
            COUNTERFACTUAL - 5,
            lambda x: x.var(axes, correction=other, keepdim=keep),
            1 / (count - step.details["correction"]),
            lambda f: 1 / (count - other),
        )


@plants("normalise", into=FORWARDS)
def _forward_normalise(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    axes, eps, site = step.details["axes"], step.details["eps"], e.p.describe(Ref(i))

    def variant(v, axes=axes, correction=0, centred=True, eps=eps):
        c = v - v.mean(axes, keepdim=True) if centred else v
        count = math.prod(v.shape[a] for a in axes)
        return c * torch.rsqrt(c.square().sum(axes, keepdim=True) / (count - correction) + eps)

    def scaled(v, power):
        c = v - v.mean(axes, keepdim=True)
        return c * power(torch.rsqrt(c.square().mean(axes, keepdim=True) + eps))

    for said, power in (
        ("the root is taken of what is a root already", lambda s: torch.rsqrt(s + eps)),
        ("the root is taken of what is a root already", lambda s: s.sqrt()),
        ("the variance stands where its root belongs", lambda s: s * s),
        (
            "your gradient multiplies by the root of the variance, and must divide by it",
            lambda s: 1 / s,
        ),
        ("the variance multiplies, and its root must divide", lambda s: s**-2),
    ):
        yield e.instead(
            i,
            "wrong_power",
            f"{said} in {site}",
            COUNTERFACTUAL + 1,
            lambda v, f=power: scaled(v, f),
        )
    yield e.instead(
        i,
        "other_variant",
        f"this is the gradient for the unbiased variance, and {site} has the biased one",
        COUNTERFACTUAL - 5,
        lambda v: variant(v, correction=1),
    )
    for other in (0.0, 1e-3, 1e-5, 1e-6, 1e-8, 1e-12):
        if other != eps:
            said = f"for an eps of {other:g}, and {site} has {eps:g}"
            if not other:
                said = f"of {site} without its eps"
            candidate = e.instead(
                i,
                "other_variant",
                f"this is the gradient {said}",
                COUNTERFACTUAL,
                lambda v, o=other: variant(v, eps=o),
            )
            for j in e.used:
                if e.p.steps[j].kind == "rstd" and e.p.steps[j].about == i:
                    candidate.changes[j] = lambda values, j=j, o=other: torch.rsqrt(
                        e.p.steps[j].run(values) ** -2 - eps + o
                    )
            yield candidate
    yield e.instead(
        i,
        "other_variant",
        f"this is the gradient for a normalisation without the mean, and {site} subtracts it",
        COUNTERFACTUAL,
        lambda v: variant(v, centred=False),
    )
    for other in other_axes(axes, e.p[Ref(i)].dim()):
        yield e.instead(
            i,
            "wrong_axis",
            f"your gradient normalises over {axes_said(other)}, {site} over {axes_said(axes)}",
            COUNTERFACTUAL,
            lambda v, o=other: variant(v, axes=o),
        )


@plants("softmax", "log_softmax", into=FORWARDS)
def _forward_softmax(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    function = torch.softmax if step.kind == "softmax" else torch.log_softmax
    other_kind = torch.log_softmax if step.kind == "softmax" else torch.softmax
    for axis in range(e.p[Ref(i)].dim()):
        if axis != step.details["axis"]:
            yield e.instead(
                i,
                "wrong_axis",
                f"the {step.kind} of your gradient runs over axis {axis}, the forward's over axis "
                f"{step.details['axis']}",
                COUNTERFACTUAL,
                lambda z, a=axis: function(z, a),
            )
    yield e.instead(
        i,
        "other_variant",
        f"this is the gradient for {other_kind.__name__}, and the forward has {step.kind}",
        COUNTERFACTUAL,
        lambda z: other_kind(z, step.details["axis"]),
    )
    if step.kind == "softmax":
        yield from masked_softmax(e, i, step)


@plants("sum", "mean", into=FORWARDS)
def _forward_reduce(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    axes, keep = step.details["axes"], step.details["keep"]
    source = step.arguments[0]
    if not e.active >> source.i & 1:
        return
    rank = e.p[source].dim()
    count = math.prod(e.p.shape(source)[a] for a in axes)
    said = e.p.describe(Ref(i))
    if step.kind == "mean":
        yield e.rescaled(
            i,
            "missing_mean",
            f"the 1/{count} of {said} is left out",
            COUNTERFACTUAL,
            lambda x: x.sum(axes, keepdim=keep),
            1 / count,
            lambda f: 1.0,
        )
        if count > 1:
            yield e.rescaled(
                i,
                "wrong_mean_count",
                f"your gradient divides by {count - 1} where it must divide by {count}, as {said} does",
                COUNTERFACTUAL,
                lambda x: x.sum(axes, keepdim=keep) / (count - 1),
                1 / count,
                lambda f: 1 / (count - 1),
            )
    else:
        yield from _mean_for_sum(e, i, step, count)
    if step.kind == "mean" and count > 1 and _squares(e.p, source):
        yield e.rescaled(
            i,
            "other_variant",
            f"this is the gradient for the unbiased variance, and {said} is the biased one",
            COUNTERFACTUAL - 5,
            lambda x: x.sum(axes, keepdim=keep) / (count - 1),
            1 / count,
            lambda f: 1 / (count - 1),
        )
    if keep:
        for other in other_axes(axes, rank):
            yield e.instead(
                i,
                "wrong_axis",
                f"your gradient takes {said} over {axes_said(other)}, the forward over "
                f"{axes_said(axes)}",
                COUNTERFACTUAL,
                lambda x, o=other: reduced(x, step, o, True),
            )


def _mean_for_sum(e: Enumeration, i: int, step: Step, count: int) -> Iterator[Candidate]:
    """Plant a mean, and its share in the backward: without that it would be a sum still."""
    axes, keep = step.details["axes"], step.details["keep"]
    candidate = e.instead(
        i,
        "extra_mean",
        f"your gradient is that of a mean, and {e.p.describe(Ref(i))} is a sum",
        COUNTERFACTUAL,
        lambda x: x.mean(axes, keepdim=keep),
    )
    for j in e.used:
        back = e.p.steps[j]
        if back.about == i and back.kind == "spread":
            candidate.changes[j] = lambda values, back=back: back.run(values) / count
    if len(candidate.changes) > 1:
        yield candidate


def _squares(p: Program, ref: Ref) -> bool:
    step = p.steps[ref.i]
    return (step.kind == "pow" and step.arguments[1] == 2) or (
        step.kind == "mul" and len(set(step.operands())) == 1
    )
