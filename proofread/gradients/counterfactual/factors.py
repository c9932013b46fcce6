"""Another factor, divisor or exponent in the forward."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from proofread.gradients.graph.naming import factor_said, number
from proofread.gradients.graph.program import Ref, Step, resolve
from proofread.gradients.planted.candidates import (
    COUNTERFACTUAL,
    FORWARDS,
    SWAP,
    Candidate,
    Enumeration,
    plants,
    shaped,
)
from proofread.gradients.planted.factors import is_statistic


@plants("mul", into=FORWARDS)
def _forward_mul(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    for position, factor in enumerate(step.arguments):
        other = step.arguments[1 - position]
        if not isinstance(other, Ref) or (isinstance(factor, Ref) and e.active >> factor.i & 1):
            continue
        if not isinstance(factor, Ref) and factor == 0:
            continue  # what is multiplied by 0 has no gradient to lose
        whole = isinstance(factor, Ref) and e.p[factor].numel() > 1
        if whole and not e.active >> other.i & 1 and e.p.shape(factor) == e.p.shape(other):
            continue  # a swap of what the backward reads
        kept = 1 - position
        label = "missing_mask" if whole and _is_mask(e.p[factor]) else "missing_scale_factor"
        statistic = whole and is_statistic(e.p, factor)
        if factor == -1:
            label = "sign_error"
        named = e.name(factor) if isinstance(factor, Ref) else e.p.number(factor)
        said = factor_said(named, e.p.describe(Ref(i)))
        if not whole and factor != -1:
            yield _only_read(e, i, said, lambda a, b, k=kept: (a, b)[k])
        yield e.rescaled(
            i,
            label,
            f"a minus is lost in {e.p.describe(Ref(i))}" if factor == -1 else f"{said} is left out",
            _rank_of_left_out(e, i, factor),
            lambda a, b, k=kept: shaped((a, b)[k], (a, b)[1 - k]),
            factor,
            lambda f: 1.0,
        )
        yield e.rescaled(
            i,
            "wrong_power" if statistic else "wrong_scale_factor",
            f"your gradient divides by {said}, and must multiply by it",
            COUNTERFACTUAL + 2,
            lambda a, b, k=kept: (a, b)[k] / (a, b)[1 - k],
            factor,
            lambda f: 1 / f,
        )
        yield e.rescaled(
            i,
            "wrong_power" if statistic else "applied_twice",
            f"{said} is there twice",
            COUNTERFACTUAL + 2,
            lambda a, b, k=kept: (a, b)[k] * (a, b)[1 - k] ** 2,
            factor,
            lambda f: f * f,
        )


@plants("div", into=FORWARDS)
def _forward_div(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    divisor = step.arguments[1]
    if isinstance(divisor, Ref) and e.active >> divisor.i & 1:
        return
    named = e.name(divisor) if isinstance(divisor, Ref) else e.p.number(divisor)
    said = factor_said(named, e.p.describe(Ref(i)), kind="divisor")
    if not isinstance(divisor, Ref) or e.p[divisor].numel() == 1:
        yield _only_read(e, i, said, lambda a, b: a.clone())
    multiplied = f"your gradient multiplies by {said}, and must divide by it"
    statistic = isinstance(divisor, Ref) and is_statistic(e.p, divisor)
    label = "wrong_power" if statistic else "wrong_scale_factor"
    plans = (
        ("missing_scale_factor", f"{said} is left out", lambda b: b * 0 + 1.0),
        (label, multiplied, lambda b: b),
        (label, f"{said} is there twice", lambda b: 1 / b**2),
        (label, f"the root of {said} stands in its place", lambda b: abs(b) ** -0.5),
    )
    for label, what, scale in plans:
        rank = (
            _rank_of_left_out(e, i, divisor) if label == "missing_scale_factor" else COUNTERFACTUAL
        )
        candidate = e.instead(i, label, what, rank, lambda a, b, s=scale: a * s(b))
        for j in sorted(e.used):
            step = e.p.steps[j]
            if step.about == i and step.kind == "mul" and step.role in ("const", "count"):

                def change(values, step=step, scale=scale):
                    g, f = (resolve(a, values) for a in step.arguments)
                    return g * scale(1 / f)

                candidate.changes[j] = change
        yield candidate


def _only_read(e: Enumeration, i: int, said: str, without) -> Candidate:
    """What comes after is computed again without the factor; the gradient still has it."""
    return e.instead(
        i,
        "derivative_at_wrong_point",
        f"{said} is left out of what your gradient is computed from",
        COUNTERFACTUAL + 1,
        without,
        hint="Compute it in the backward from the same values as in the forward, or save it there.",
    )


def _rank_of_left_out(e: Enumeration, i: int, factor) -> int:
    """Of a value that is only read, to take what it is made of is to take a wrong operand.

    But a number, or an input that is spread over it, is a scale.
    """
    scale = not isinstance(factor, Ref) or (
        e.p.steps[factor.i].kind == "leaf" and e.p[factor].numel() < e.p[Ref(i)].numel()
    )
    return COUNTERFACTUAL if scale or e.active >> i & 1 else SWAP + 3


def _is_mask(value: Tensor) -> bool:
    return value.dtype == torch.bool or bool((value == 0).any())


@plants("pow", into=FORWARDS)
def _forward_pow(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    exponent = step.arguments[1]
    if isinstance(exponent, int | float):
        for other in (exponent - 1, exponent + 1, -exponent, 2 * exponent, exponent / 2):
            candidate = e.instead(
                i,
                "wrong_power",
                f"your gradient is that of the exponent {number(other)}, and {e.p.describe(Ref(i))} "
                f"has {number(exponent)}",
                COUNTERFACTUAL + 3,
                lambda x, n, k=other: x**k,
            )
            for j in e.used:
                back = e.p.steps[j]
                if back.about == i and back.kind == "power":
                    candidate.changes[j] = lambda values, s=back, k=other: (
                        resolve(s.arguments[0], values) ** (k - 1)
                    )
                elif back.about == i and back.role == "power":
                    candidate.changes[j] = lambda values, s=back, k=other: (
                        resolve(s.arguments[0], values) * k
                    )
            # Without its own derivative it would be another forward that is differentiated.
            if len(candidate.changes) > 1 or not e.active >> i & 1:
                yield candidate
