"""Mistakes in what a step of the backward reads: another gradient, another saved tensor."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from proofread.gradients.graph.naming import spelled
from proofread.gradients.graph.program import Ref, Step, resolve
from proofread.gradients.graph.rules.functions import SLOPES
from proofread.gradients.planted.candidates import (
    LOCAL,
    SWAP,
    Candidate,
    Enumeration,
)
from proofread.gradients.planted.products import transposed_said
from proofread.gradients.planted.upstream import COLLAPSES
from proofread.gradients.sentences import SQUARE

COLLAPSIBLE = ("mul", "mul3", "mm", "stat_mul", "conv_backward", "scatter", "vjp")


def read_mistakes(e: Enumeration, i: int, step: Step) -> Iterator[Candidate]:
    """Each argument of a backward step, replaced by something of the same shape."""
    for position, argument in enumerate(step.arguments):
        if not isinstance(argument, Ref) or step.kind in ("places", "condition"):
            continue
        if e.carries >> argument.i & 1:
            yield from _gradient_read(e, i, step, position, argument)
        else:
            yield from _saved_read(e, i, step, position, argument)


def _gradient_read(e: Enumeration, i, step, position, argument) -> Iterator[Candidate]:
    if step.kind in ("view", "permute", "spread", "fork_copy"):
        return
    value = e.p.values[argument.i]
    level = bool((value == value.reshape(-1)[0]).all())  # such as 1/N for each entry
    # A constant other than the upstream itself is a factor of the forward.
    if not level or value.reshape(-1)[0] in e.p.values[e.start]:
        yield e.reading(
            i,
            position,
            "missing_upstream",
            f"the term of {e.site(i)} is not multiplied by {e.name(argument)}",
            LOCAL + 1,
            lambda values: torch.ones_like(values[argument.i]),
        )
    if step.kind in COLLAPSIBLE and not level:
        for what, collapse in COLLAPSES:
            yield e.reading(
                i,
                position,
                "upstream_collapsed",
                f"{what} of {e.name(argument)} stands in for all of it",
                LOCAL + 9,
                lambda values, f=collapse: f(values[argument.i]).expand_as(values[argument.i]),
            )
    shape = e.p.shape(argument)
    for j in range(e.start, i):
        if (
            j == argument.i
            or not e.carries >> j & 1
            or j not in e.used
            or e.is_far(i, j, argument.i)
        ):
            continue
        if isinstance(e.p.values[j], Tensor) and e.p.shape(Ref(j)) == shape:
            label, what, also = _skipped(e, argument, j)
            candidate = e.reading(
                i, position, label, what, SWAP + 2, lambda values, j=j: values[j], also
            )
            candidate.in_loop = ("gradient", position, e.seen_from(i, j))
            yield candidate


def _skipped(e: Enumeration, argument: Ref, j: int) -> tuple[str, str, tuple[str, ...]]:
    """Name what is left out where an earlier gradient stands in the place of one."""
    step = e.p.steps[argument.i]
    at_once = bool(step.operands()) and step.operands()[0].i == j
    if at_once and step.kind == "mul" and step.role in ("operand", "const"):
        factor = step.arguments[1]
        named = e.name(factor) if isinstance(factor, Ref) else e.p.number(factor)
        what = f"the factor {named} is left out of one term of the gradient of {e.site(argument.i)}"
        return "missing_scale_factor", what, ("missing_local_derivative",)
    if step.kind == "spread":
        what = f"each entry has its own gradient in that of {e.site(argument.i)}, and not the sum of all"
        return "missing_cross_terms", what, ("missing_local_derivative",)
    if at_once:
        return "missing_local_derivative", f"the derivative of {e.site(argument.i)} is left out", ()
    what = f"{e.name(Ref(j))} stands where {e.name(argument)} belongs"
    return "missing_local_derivative", what, ()


def _saved_read(e: Enumeration, i, step, position, argument) -> Iterator[Candidate]:
    if e.p.values[argument.i].dim() == 0:
        return
    from_output = step.details.get("from_output") if position == 1 else None
    shape = e.p.shape(argument)
    named = e.name(argument)
    shapes = {shape, _shape_behind(e, argument)}
    for j, value in enumerate(e.p.values[: e.start + 1]):
        if j == argument.i or not isinstance(value, Tensor) or tuple(value.shape) not in shapes:
            continue
        if (
            not e.p.is_float(Ref(j))
            or _is_derived_view(e, j, argument.i)
            or e.is_far(i, j, argument.i)
        ):
            continue
        if (value == 0).any() and _stops_all(e, step, position, value.reshape(shape)):
            continue  # such as a mask behind a softmax with that mask: a path is left out
        label, rank = _swap_label(e, step, argument.i, j)
        said = f"your gradient uses {e.name(Ref(j))} where {named} belongs"
        hint = swap_hint(e, step, argument.i, j)
        also: tuple[str, ...] = ()
        again = _multiplied_again(e, argument.i, j)
        if again and label == "wrong_operand":
            label, also, hint = "applied_twice", ("wrong_operand",), ""
            said = f"the factor {e.name(again)} is multiplied in twice: {said}"
        if from_output:  # the step itself is written for the input
            change = lambda values, j=j: from_output(values[j].reshape(shape))
            candidate = e.plant(i, label, said, rank, change, also, hint=hint)
        else:
            candidate = e.reading(
                i,
                position,
                label,
                said,
                rank,
                lambda values, j=j, like=argument.i: (
                    values[j].to(values[like].dtype).reshape(values[like].shape)
                ),
                also,
                hint=hint,
            )
        candidate.in_loop = ("saved", position, e.seen_from(i, j))
        yield candidate
    made = e.p.steps[argument.i]
    while made.kind == "view" and made.phase == "forward":
        made = e.p.steps[made.operands()[0].i]
    if made.kind == "mm" and made.phase == "forward":
        yield from _of_transposed(e, i, position, argument, made)
    if len(shape) >= 2 and shape[-1] == shape[-2] and step.kind in ("mul", "mul3"):
        yield e.reading(
            i,
            position,
            "transposed_operand",
            f"the factor {named} is transposed, and must not be",
            LOCAL,
            lambda values: values[argument.i].mT,
        )


def _of_transposed(
    e: Enumeration, i: int, position: int, argument: Ref, made: Step
) -> Iterator[Candidate]:
    """A product that the backward computes anew, with one of its factors transposed."""
    for k, factor in enumerate(made.arguments):
        if e.p.shape(factor)[-1] != e.p.shape(factor)[-2]:
            continue

        def turned(values, k=k):
            a, b = (values[r.i] for r in made.arguments)
            product = made.function(*((a.mT, b), (a, b.mT))[k])
            return product.reshape(values[argument.i].shape)

        what = f"in {e.name(argument)}, {transposed_said(e, factor)}"
        yield e.reading(i, position, "transposed_operand", what, SWAP + 1, turned, hint=SQUARE)


def _shape_behind(e: Enumeration, argument: Ref) -> tuple[int, ...]:
    """Return the shape of the value that the forward reads as another one, such as tokens as rows."""
    step = e.p.steps[argument.i]
    viewed = step.kind == "view" and step.phase == "forward"
    behind = step.operands()[0] if viewed else argument
    same = e.p[behind].numel() == e.p[argument].numel()
    return e.p.shape(behind) if same else e.p.shape(argument)


def _stops_all(e: Enumeration, step: Step, position: int, other: Tensor) -> bool:
    """Tell whether a step gives 0 everywhere with another value among its arguments."""
    arguments = [resolve(a, e.p.values) for a in step.arguments]
    arguments[position] = other.to(arguments[position].dtype)
    try:
        return not step.function(*arguments).any()
    except (RuntimeError, IndexError, ValueError, TypeError):
        return False


def _multiplied_again(e: Enumeration, right: int, wrong: int) -> Ref | None:
    """Return the factor that makes the wrong tensor of the right one, if the backward has it already."""
    step = e.p.steps[wrong]
    if step.kind != "mul" or Ref(right) not in step.operands() or len(set(step.operands())) < 2:
        return None
    (factor,) = [r for r in step.operands() if r != Ref(right)]
    there = any(
        e.p.steps[j].about == wrong and factor in e.p.steps[j].operands()
        for j in e.used
        if e.carries >> j & 1
    )
    return factor if there and not e.active >> factor.i & 1 else None


def _is_derived_view(e: Enumeration, j: int, i: int) -> bool:
    step = e.p.steps[j]
    return step.kind in ("view", "expand") and Ref(i) in step.operands()


def _swap_label(e: Enumeration, step: Step, right: int, wrong: int) -> tuple[str, int]:
    about = e.p.steps[step.about]
    pair = {step.about, *(r.i for r in about.operands())}
    if step.kind in ("local",) and {right, wrong} <= pair:
        return "derivative_at_wrong_point", LOCAL
    if _is_mask_of_slopes(step):
        return "wrong_mask", SWAP
    if step.kind == "local" and _is_read_alike(e, about, wrong):
        return "wrong_operand", SWAP + 1  # of another layer
    if step.kind == "local" or (step.kind == "mul" and step.role in ("inner",)):
        return "derivative_at_wrong_point", SWAP + 1
    if about.kind in ("softmax", "log_softmax", "pow", "unary") and {right, wrong} <= pair:
        return "derivative_at_wrong_point", LOCAL
    made_of = e.p.steps[right]
    squashed = step.role == "target" and made_of.kind in ("softmax", "unary")
    if squashed and Ref(wrong) in made_of.operands():
        return "derivative_at_wrong_point", LOCAL
    return "wrong_operand", SWAP


def swap_hint(e: Enumeration, step: Step, right: int, wrong: int) -> str:
    """Say where the right one of two tensors comes from."""
    made_of = e.p.steps[right]
    if made_of.kind == "unary" and Ref(wrong) in made_of.operands():
        called = spelled(made_of.details["called"])
        return f"The forward uses the output of {called} there, and not its input."
    if e.p.steps[wrong].kind == "unary" and Ref(right) in e.p.steps[wrong].operands():
        called = spelled(e.p.steps[wrong].details["called"])
        return f"The forward uses the input of {called} there, and not its output."
    kind = e.p.steps[step.about].kind
    return {
        "div": "For a / b, the gradient of a holds 1 / b, and the gradient of b holds -a / b².",
        "mm": "For A @ B, the gradient of A holds B, and the gradient of B holds A.",
        "mul": "For a * b, the gradient of a holds b, and the gradient of b holds a.",
    }.get(kind, "")


def _only_asks(step: Step) -> bool:
    return step.kind == "condition" or _is_mask_of_slopes(step)


def _is_mask_of_slopes(step: Step) -> bool:
    """Tell a derivative of which only the sides of its kinks depend on what it reads."""
    called = step.details.get("called", "")
    return step.kind == "local" and called.removesuffix("'") in SLOPES


def _is_read_alike(e: Enumeration, about: Step, wrong: int) -> bool:
    """Tell whether a value goes into, or comes out of, another step of the same function."""
    called = about.details.get("called")
    return any(
        step is not about
        and step.details.get("called") == called
        and (i == wrong or Ref(wrong) in step.operands())
        for i, step in enumerate(e.p.steps[: e.start])
    )


def chained_reads(e: Enumeration) -> Iterator[Candidate]:
    """Factors one after the other are one factor to the reader: an input may stand in its place."""
    inputs = [
        j
        for j, step in enumerate(e.p.steps[: e.start])
        if step.kind == "leaf" and e.p.is_float(Ref(j)) and e.p[Ref(j)].dim()
    ]
    for i in sorted(e.used):
        chain = _chain(e, i)
        if len(chain) < 2 or _chain_goes_on(e, i):
            continue
        start, last = e.p.steps[chain[0]].arguments[0], e.p.steps[i]
        factor = last.arguments[1]
        for j in inputs:
            if j == factor.i or e.p.shape(Ref(j)) != e.p.shape(factor):
                continue
            yield e.plant(
                i,
                "wrong_operand",
                f"your gradient uses {e.name(Ref(j))} where {e.name(factor)}, with its factors, "
                "belongs",
                SWAP + 1,
                lambda values, start=start.i, j=j: values[start] * values[j],
            )


def _chain(e: Enumeration, i: int) -> list[int]:
    """Return the products by saved values that follow each other up to this one."""
    chain = []
    while True:
        step = e.p.steps[i]
        if step.phase != "backward" or step.kind != "mul" or not e.carries >> i & 1:
            return chain[::-1]
        if not all(isinstance(a, Ref) for a in step.arguments[:2]) or (
            e.carries >> step.arguments[1].i & 1
        ):
            return chain[::-1]
        chain.append(i)
        i = step.arguments[0].i


def _chain_goes_on(e: Enumeration, i: int) -> bool:
    return any(
        e.p.steps[j].kind == "mul" and e.p.steps[j].operands()[:1] == [Ref(i)] for j in e.used
    )


def saved_everywhere(e: Enumeration) -> Iterator[Candidate]:
    """One saved tensor, replaced by another in every step of one rule or of the backward."""
    reads: dict[int, list[tuple[int, int]]] = {}
    for i in sorted(e.used):
        step = e.p.steps[i]
        if step.phase != "backward" or step.kind in ("upstream",):
            continue
        for position, argument in enumerate(step.arguments):
            if isinstance(argument, Ref) and argument.i < e.start:
                reads.setdefault(argument.i, []).append((i, position))
    for right, places in reads.items():
        if len({i for i, _ in places}) < 2 or not e.p.is_float(Ref(right)):
            continue
        shape = e.p.shape(Ref(right))
        for j in range(e.start):
            value = e.p.values[j]
            if j == right or not isinstance(value, Tensor) or tuple(value.shape) != shape:
                continue
            if e.p.is_float(Ref(j)) and value.dim():
                yield _replaced_everywhere(e, right, j, places)


def _replaced_everywhere(e: Enumeration, right: int, wrong: int, places) -> Candidate:
    steps = sorted({i for i, _ in places})
    changes = {}
    for i in steps:
        step = e.p.steps[i]

        def change(values, step=step):
            kept = values[right]
            values[right] = values[wrong]
            try:
                return step.run(values)
            finally:
                values[right] = kept

        changes[i] = change
    abouts = {e.p.steps[i].about for i in steps}
    about = e.p.steps[min(abouts)]
    pair = {min(abouts), *(r.i for r in about.operands())}
    label = (
        "derivative_at_wrong_point"
        if len(abouts) == 1 and {right, wrong} <= pair and about.kind != "mm"
        else "wrong_operand"
    )
    if label == "wrong_operand" and all(_only_asks(e.p.steps[i]) for i in steps):
        label = "wrong_mask"
    return Candidate(
        label,
        f"your gradient uses {e.name(Ref(wrong))} where {e.name(Ref(right))} belongs",
        SWAP + 1,
        (e.tag, "everywhere", right, wrong),
        e.p,
        changes,
        hint=swap_hint(e, e.p.steps[min(steps)], right, wrong),
    )
