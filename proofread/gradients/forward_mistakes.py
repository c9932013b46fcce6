"""The right gradients of wrong forwards.

Who differentiates another forward than the one given makes one of these mistakes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from proofread.gradients.backward_mistakes import transposed_said
from proofread.gradients.candidates import (
    COUNTERFACTUAL,
    FORWARDS,
    REMOTE,
    SWAP,
    Candidate,
    Enumeration,
    plants,
    reduced,
    shaped,
)
from proofread.gradients.naming import axes_said, number
from proofread.gradients.program import Program, Ref, Step, resolve
from proofread.gradients.rules.normalise import other_axes
from proofread.gradients.sentences import SQUARE
from proofread.gradients.unary import UNARY, mistaken


@plants("mul", into=FORWARDS)
def _forward_mul(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    for position, factor in enumerate(step.arguments):
        other = step.arguments[1 - position]
        if not isinstance(other, Ref) or (isinstance(factor, Ref) and e.active >> factor.i & 1):
            continue
        if not e.active >> other.i & 1 and isinstance(factor, Ref) and e.p[factor].numel() > 1:
            continue
        kept = 1 - position
        if isinstance(factor, Ref) and e.p[factor].numel() > 1:
            label = "missing_mask" if _is_mask(e.p[factor]) else "missing_scale_factor"
        else:
            label = "missing_scale_factor"
        if factor == -1:
            label = "sign_error"
        named = e.name(factor) if isinstance(factor, Ref) else e.p.number(factor)
        said = f"the factor {named} of {e.p.describe(Ref(i))}"
        yield e.rescaled(
            i,
            label,
            f"a minus is lost in {e.p.describe(Ref(i))}" if factor == -1 else f"{said} is left out",
            COUNTERFACTUAL,
            lambda a, b, k=kept: shaped((a, b)[k], (a, b)[1 - k]),
            factor,
            lambda f: 1.0,
        )
        yield e.rescaled(
            i,
            "wrong_scale_factor",
            f"your gradient divides by {said}, and must multiply by it",
            COUNTERFACTUAL + 2,
            lambda a, b, k=kept: (a, b)[k] / (a, b)[1 - k],
            factor,
            lambda f: 1 / f,
        )
        yield e.rescaled(
            i,
            "applied_twice",
            f"{said} is there twice",
            COUNTERFACTUAL + 2,
            lambda a, b, k=kept: (a, b)[k] * (a, b)[1 - k] ** 2,
            factor,
            lambda f: f * f,
        )


@plants("div", into=FORWARDS)
def _forward_div(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    divisor = step.arguments[1]
    if isinstance(divisor, Ref) and (e.active >> divisor.i & 1 or e.p[divisor].numel() > 1):
        return
    named = e.name(divisor) if isinstance(divisor, Ref) else e.p.number(divisor)
    said = f"the divisor {named} of {e.p.describe(Ref(i))}"
    multiplied = f"your gradient multiplies by {said}, and must divide by it"
    plans = (
        ("missing_scale_factor", f"{said} is left out", lambda b: 1.0),
        ("wrong_scale_factor", multiplied, lambda b: b),
        ("wrong_scale_factor", f"{said} is there twice", lambda b: 1 / b**2),
        ("wrong_scale_factor", f"the root of {said} stands in its place", lambda b: abs(b) ** -0.5),
    )
    for label, what, scale in plans:
        candidate = e.instead(i, label, what, COUNTERFACTUAL, lambda a, b, s=scale: a * s(b))
        for j in sorted(e.used):
            step = e.p.steps[j]
            if step.about == i and step.kind == "mul" and step.role in ("const", "count"):

                def change(values, step=step, scale=scale):
                    g, f = (resolve(a, values) for a in step.arguments)
                    return g * scale(1 / f)

                candidate.changes[j] = change
        yield candidate


def _is_mask(value: Tensor) -> bool:
    return value.dtype == torch.bool or bool((value == 0).any())


@plants("where", into=FORWARDS)
def _forward_where(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    said = f"the mask of {e.p.describe(Ref(i))}"
    plans = [
        ("missing_mask", f"{said} is left out", lambda c: torch.zeros_like(c)),
        ("missing_mask", f"{said} is left out", lambda c: torch.ones_like(c)),
        ("wrong_mask", f"{said} is inverted", lambda c: ~c),
    ]
    shape = e.p.shape(step.arguments[0])
    if len(shape) >= 2 and shape[-1] == shape[-2]:
        eye = torch.eye(shape[-1], dtype=torch.bool)
        plans += [
            ("wrong_mask", f"{said} is transposed", lambda c: c.mT),
            ("wrong_mask", f"{said} differs on the diagonal", lambda c: c ^ eye),
        ]
    for label, what, other in plans:
        yield _with_condition(e, i, label, what, other)


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
    if e.p.values[i].dtype != torch.bool:
        return
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


@plants("add", "sub", into=FORWARDS)
def _forward_add(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    for position, left_out in enumerate(step.arguments):
        kept = step.arguments[1 - position]
        if not isinstance(left_out, Ref) or not isinstance(kept, Ref):
            continue
        said = f"the term {e.name(left_out)} of {e.p.describe(Ref(i))} is left out"
        if step.kind == "sub" and position == 1:
            said = f"the {e.name(left_out)} of {e.p.describe(Ref(i))} is not subtracted"
        if e.active >> left_out.i & 1:
            continue
        target = step.kind == "sub" and e.p.shape(left_out) == e.p.shape(kept)
        yield e.instead(
            i,
            _label_of_summand(e, i, left_out, target),
            said,
            COUNTERFACTUAL,
            lambda a, b, k=1 - position, s=step.kind: _kept(a, b, k, s),
        )
        yield e.instead(
            i,
            "sign_error",
            f"the term {e.name(left_out)} of {e.p.describe(Ref(i))} has the wrong sign",
            COUNTERFACTUAL,
            lambda a, b, s=step.kind: a - b if s == "add" else a + b,
        )


def _label_of_summand(e: Enumeration, i: int, left_out: Ref, target: bool) -> str:
    if e.p[left_out].abs().max() > 1e4:  # -1e9, or -inf, where attention must not look
        return "missing_mask"
    if target:
        return "missing_target"
    return "wrong_mask" if _before_mask(e, i) else "wrong_operand"


def _before_mask(e: Enumeration, i: int) -> bool:
    return any(Ref(i) in s.operands() and s.details.get("called") == "relu" for s in e.p.steps)


def _kept(a, b, k: int, kind: str) -> Tensor:
    kept = (a, b)[k]
    return shaped(-kept if kind == "sub" and k == 1 else kept, (a, b)[1 - k])


@plants("unary", into=FORWARDS)
def _forward_unary(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    name = step.details["called"]
    if not e.active >> i & 1:
        return
    yield e.instead(
        i,
        "missing_local_derivative",
        f"the derivative of {e.p.describe(Ref(i))} is left out",
        COUNTERFACTUAL + 1,
        lambda z: z,
    )
    for relative in UNARY[name].relatives:
        yield e.instead(
            i,
            "other_variant",
            mistaken(relative, name),
            COUNTERFACTUAL + 2,
            UNARY[relative].function,
        )


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

    yield e.instead(
        i,
        "other_variant",
        f"this is the gradient for the unbiased variance, and {site} has the biased one",
        COUNTERFACTUAL - 5,
        lambda v: variant(v, correction=1),
    )
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
        yield e.instead(
            i,
            "extra_mean",
            f"your gradient is that of a mean, and {said} is a sum",
            COUNTERFACTUAL,
            lambda x: x.mean(axes, keepdim=keep),
        )
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


def _squares(p: Program, ref: Ref) -> bool:
    step = p.steps[ref.i]
    return (step.kind == "pow" and step.arguments[1] == 2) or (
        step.kind == "mul" and len(set(step.operands())) == 1
    )


@plants("pow", into=FORWARDS)
def _forward_pow(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    exponent = step.arguments[1]
    if e.active >> i & 1 and isinstance(exponent, int | float):
        for other in (exponent - 1, exponent + 1, -exponent, 2 * exponent, exponent / 2):
            yield e.instead(
                i,
                "wrong_power",
                f"your gradient is that of the exponent {number(other)}, and {e.p.describe(Ref(i))} "
                f"has {number(exponent)}",
                COUNTERFACTUAL + 3,
                lambda x, n, k=other: x**k,
            )


@plants("conv", into=FORWARDS)
def _forward_conv(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    yield e.instead(
        i,
        "conv_flip",
        f"this is the gradient for a flipped kernel, and {e.p.describe(Ref(i))} does not flip it",
        COUNTERFACTUAL,
        lambda x, w: step.function(x, w.flip(list(range(2, w.dim())))),
    )


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
        alike = isinstance(other, Tensor) and other.shape == value.shape and value.dim()
        if j == i or e.p.steps[j].kind != "leaf" or not alike or not e.p.is_float(Ref(j)):
            continue
        yield e.plant(
            i,
            "wrong_operand",
            f"your gradient uses {e.name(Ref(j))} where {e.name(Ref(i))} belongs",
            SWAP + 3,
            lambda values, j=j: values[j] * 1.0,
        )
