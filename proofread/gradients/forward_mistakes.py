"""The right gradients of wrong forwards.

Who differentiates another forward than the one given makes one of these mistakes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from proofread.gradients.backward_mistakes import is_statistic, transposed_said
from proofread.gradients.candidates import (
    COUNTERFACTUAL,
    FORWARDS,
    REMOTE,
    SWAP,
    UNREAD,
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
        whole = isinstance(factor, Ref) and e.p[factor].numel() > 1
        if whole and not e.active >> other.i & 1 and e.p.shape(factor) == e.p.shape(other):
            continue  # a swap of what the backward reads
        kept = 1 - position
        label = "missing_mask" if whole and _is_mask(e.p[factor]) else "missing_scale_factor"
        statistic = whole and is_statistic(e.p, factor)
        if factor == -1:
            label = "sign_error"
        named = e.name(factor) if isinstance(factor, Ref) else e.p.number(factor)
        said = f"the factor {named} of {e.p.describe(Ref(i))}"
        yield e.rescaled(
            i,
            label,
            f"a minus is lost in {e.p.describe(Ref(i))}" if factor == -1 else f"{said} is left out",
            _rank_of_left_out(e, i),
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
    said = f"the divisor {named} of {e.p.describe(Ref(i))}"
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
        rank = _rank_of_left_out(e, i) if label == "missing_scale_factor" else COUNTERFACTUAL
        candidate = e.instead(i, label, what, rank, lambda a, b, s=scale: a * s(b))
        for j in sorted(e.used):
            step = e.p.steps[j]
            if step.about == i and step.kind == "mul" and step.role in ("const", "count"):

                def change(values, step=step, scale=scale):
                    g, f = (resolve(a, values) for a in step.arguments)
                    return g * scale(1 / f)

                candidate.changes[j] = change
        yield candidate


def _rank_of_left_out(e: Enumeration, i: int) -> int:
    """Of a value that is only read, to take what it is made of is to take a wrong operand."""
    return COUNTERFACTUAL if e.active >> i & 1 else SWAP + 3


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


def _moved_triangles(mask: Tensor) -> list[Callable[[Tensor], Tensor]]:
    """Return what makes of a triangular mask the one with a diagonal more or less."""
    ones = torch.ones_like(mask)
    for triangle in (torch.tril, torch.triu):
        for k in (-1, 0, 1):
            if torch.equal(mask, triangle(ones, k)):
                return [
                    lambda m, t=triangle, k=other: t(torch.ones_like(m), k)
                    for other in (k - 1, k + 1)
                ]
    return []


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


@plants("add", into=UNREAD)
def _blend(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """One of two weighted losses, at full weight: so are smoothed labels taken for plain ones."""
    parts = [e.p.steps[a.i] if isinstance(a, Ref) else None for a in step.arguments]
    if not all(part and part.kind == "mul" and _is_weight(part.arguments[1]) for part in parts):
        return
    for whole, lost in (parts, parts[::-1]):
        said = e.p.describe(whole.arguments[0])
        changes = {}
        for j in e.used:
            back = e.p.steps[j]
            if back.kind == "mul" and back.phase == "backward":
                if back.about >= 0 and e.p.steps[back.about] is whole:
                    changes[j] = lambda values, b=back: resolve(b.arguments[0], values) * 1.0
                elif back.about >= 0 and e.p.steps[back.about] is lost:
                    changes[j] = lambda values, b=back: resolve(b.arguments[0], values) * 0.0
        if len(changes) == 2:
            what = f"this is the gradient of {said} alone, at full weight"
            yield e.changed("other_variant", what, COUNTERFACTUAL - 12, changes)


def _is_weight(number) -> bool:
    return isinstance(number, float) and 0 < number < 1


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
    root = name in ("sqrt", "rsqrt")
    if root:
        yield e.instead(
            i,
            "wrong_power",
            f"the root in {e.p.describe(Ref(i))} is left out",
            COUNTERFACTUAL,
            lambda z, n=name: _unrooted(z, n),
        )
    elif e.active >> i & 1:
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
    if isinstance(exponent, int | float):
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
    if value.dim() and _is_blocking(value):
        yield from _other_mask(e, i, value)
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


def _is_blocking(value: Tensor) -> bool:
    """Tell a mask to multiply by, of 0 and one other number, or one to add, of 0 and -inf."""
    return bool((value == 0).any()) and value.unique().numel() == 2


def _other_mask(e: Enumeration, i: int, value: Tensor) -> Iterator[Candidate]:
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
