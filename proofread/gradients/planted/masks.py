"""Mistakes in a factor that is a mask: left out, inverted, asked of another tensor."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from proofread.gradients.graph.program import Ref, Step
from proofread.gradients.planted.candidates import (
    LOCAL,
    SWAP,
    Candidate,
    Enumeration,
    shaped,
)


def mask_mistakes(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    factor = step.arguments[1]
    here = f"of {e.site(i)}"
    activation = step.role == "activation_mask"
    if activation:
        yield e.instead(
            i,
            "missing_local_derivative",
            f"the derivative {here} is left out",
            LOCAL,
            lambda g, f: g,
            ("missing_mask",),
        )
    else:
        also = ("missing_local_derivative",) if e.p.steps[step.about].kind == "where" else ()
        yield e.instead(
            i,
            "missing_mask",
            f"the mask {here} is left out",
            LOCAL,
            lambda g, f: shaped(g, f).clone(),
            also,
        )
    largest = lambda f: f.max() if f.dtype != torch.bool else 1
    if not activation and e.p.values[factor.i].dtype != torch.bool:
        yield e.instead(
            i,
            "missing_scale_factor",
            f"the scale of the mask {here} is left out",
            LOCAL,
            lambda g, f: g * (f != 0),
        )
        yield e.instead(
            i,
            "applied_twice",
            f"the mask {here} is applied twice, and with it its scale",
            LOCAL,
            lambda g, f: g * f * f,
        )
        yield e.instead(
            i, "missing_mask", f"the mask {here} is left out", LOCAL, lambda g, f: g * largest(f)
        )
    # Behind a softmax no gradient comes to what the mask blocks: inverted, it lets none through.
    gradient = e.p[step.arguments[0]]
    if e.p[factor].unique().numel() > 1 and (gradient * (e.p[factor] == 0)).any():
        yield e.instead(
            i,
            "wrong_mask",
            f"the mask {here} is inverted",
            LOCAL,
            lambda g, f: g * (f == 0) * largest(f),
        )
    right = e.name(factor)
    if activation:
        right = f"{e.name(e.p.steps[step.about].operands()[0])} > 0"
    instead = "" if right.startswith("a value") else f", and must ask {right}"
    yield e.instead(
        i,
        "wrong_mask",
        f"the mask {here} looks at the sign of {e.name(step.arguments[0])}{instead}",
        LOCAL,
        lambda g, f: g * (g > 0),
    )
    yield e.instead(
        i,
        "wrong_mask",
        f"the mask {here} looks at the sign of {e.name(step.arguments[0])}{instead}",
        LOCAL + 1,
        lambda g, f: g * (g < 0),
    )
    shape = e.p.shape(factor)
    if len(shape) == 2 and shape[0] == shape[1]:
        yield e.instead(
            i, "wrong_mask", f"the mask {here} is transposed", LOCAL, lambda g, f: g * f.mT
        )
    for j, value in enumerate(e.p.values[: e.start + 1]):
        if not isinstance(value, Tensor) or tuple(value.shape) != e.p.shape(Ref(i)):
            continue
        if value.dtype == torch.int64 or j == factor.i:
            continue
        condition = e.p.steps[factor.i]
        if value.dtype == torch.bool and (gradient * value).any():
            yield e.instead(
                i,
                "wrong_mask",
                f"the mask {e.name(Ref(j))} is applied where that {here} belongs",
                SWAP,
                lambda g, f, v=value: g * v,
            )
        if value.dtype == torch.bool:
            continue
        for said, test in (("> 0", _positive), ("< 0", _negative)):
            # A mask that is open or closed everywhere is no mask.
            telling = test(value).unique().numel() > 1 and (gradient * test(value)).any()
            if telling and (activation or condition.kind == "condition"):
                yield e.plant(
                    i,
                    "wrong_mask",
                    f"the mask {here} asks {e.name(Ref(j))} {said}{instead}",
                    LOCAL + 1,
                    lambda values, j=j, t=test: values[step.arguments[0].i] * t(values[j]),
                )


def _positive(t: Tensor) -> Tensor:
    return t > 0


def _negative(t: Tensor) -> Tensor:
    return t < 0
