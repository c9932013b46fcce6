"""Append the backward to a recorded forward, one rule of differentiation for each kind of step.

Each rule writes its formula as a textbook does, in small steps with a role ("local", "mask",
"count", "broadcast", …), because a mistake is later planted in one of them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from proofread.gradients.graph.lowerings.core import is_count, mean_over, sum_over
from proofread.gradients.graph.program import Program, Ref, Step

Rule = Callable[[Program, Step, Ref, Ref], list[tuple[Ref, Ref]]]
RULES: dict[str, Rule] = {}


class Underivable(Exception):
    """No rule gives the gradient that autograd gives."""


def rule(*kinds: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(kinds, function))
        return function

    return register


def differentiate(
    forward: Program, upstream: Tensor, textbook: dict[int, Callable] | None = None
) -> Program:
    """Return forward and backward as one program, its result the gradient with respect to `wrt`.

    `textbook` maps a forward step to a rule of its own, `rule(program, value, gradient)`,
    which leads back to an earlier value at once and skips the steps between.
    """
    p = forward.fork()
    p.phase = "backward"
    p.about = p.output.i
    p.upstream = p.leaf(upstream, "upstream", "upstream")
    active = p.dependents(1 << p.wrt.i)
    gradients: dict[int, Ref] = {p.output.i: p.upstream}
    for i in range(p.output.i, p.wrt.i, -1):
        if i not in gradients or not active >> i & 1:
            continue
        p.about = i
        if textbook and i in textbook:
            contributions = textbook[i](p, Ref(i), gradients[i])
        else:
            contributions = RULES.get(p.steps[i].kind, by_autograd)(
                p, p.steps[i], Ref(i), gradients[i]
            )
        for argument, gradient in contributions:
            if not active >> argument.i & 1:
                continue
            before = gradients.get(argument.i)
            p.about = i
            gradients[argument.i] = (
                gradient
                if before is None
                else p.emit(
                    "add", lambda a, b: a + b, before, gradient, role="fork", forked=argument.i
                )
            )
    if p.wrt.i not in gradients:
        raise Underivable("no path leads from the output to the argument")
    p.result = gradients[p.wrt.i]
    for value, gradient in gradients.items():
        p.gradient_of.setdefault(gradient.i, value)
    return p


def mul(p: Program, a, b, role: str, **extra) -> Ref:
    return p.emit("mul", lambda x, y: x * y, a, b, role=role, **extra)


def add(p: Program, a, b, role: str = "") -> Ref:
    return p.emit("add", lambda x, y: x + y, a, b, role=role)


def sub(p: Program, a, b, role: str = "") -> Ref:
    return p.emit("sub", lambda x, y: x - y, a, b, role=role)


def total(p: Program, x: Ref, axes: tuple[int, ...], keep: bool, role: str) -> Ref:
    return p.emit("sum", sum_over(axes, keep), x, role=role, axes=axes, keep=keep)


def mean(p: Program, x: Ref, axes: tuple[int, ...], role: str) -> Ref:
    return p.emit("mean", mean_over(axes, True), x, role=role, axes=axes, keep=True)


def unbroadcast(p: Program, gradient: Ref, target: Ref) -> Ref:
    """Sum over the axes that broadcasting added or stretched."""
    have, want = p.shape(gradient), p.shape(target)
    if have == want:
        return gradient
    lead = len(have) - len(want)
    if lead < 0:
        return p.emit("expand", lambda x: x.expand(want), gradient)
    stretched = tuple(
        i for i in range(len(have)) if i < lead or (want[i - lead] == 1 and have[i] != 1)
    )
    if len(have) > len(want) or stretched:
        kept = tuple(i for i in stretched if i >= lead)
        gradient = p.emit(
            "sum",
            lambda x: x.sum(stretched, keepdim=True).reshape(want),
            gradient,
            role="broadcast",
            axes=stretched,
            keep=bool(kept),
            shape=want,
        )
    if p.shape(gradient) != want:
        gradient = p.emit("expand", lambda x: x.expand(want), gradient)
    return gradient


def factor_role(p: Program, factor) -> str:
    """Say what a multiplier is: a mask, a constant, a statistic or another operand."""
    if not isinstance(factor, Ref):
        sizes = {
            s
            for step, v in zip(p.steps, p.values, strict=True)
            if step.kind == "leaf" and isinstance(v, Tensor)
            for s in v.shape
        }
        if factor == -1:
            return "sign"
        if factor and abs(factor) < 1 and is_count(round(1 / abs(factor), 9), sizes):
            return "count"
        return "const"
    value = p[factor]
    if value.dtype == torch.bool or (value.numel() > 1 and ((value == 0) | (value == 1)).all()):
        return "mask"
    if value.numel() > 1 and (value == 0).any() and value[value != 0].unique().numel() == 1:
        return "mask"
    if value.numel() == 1 and _divides_by_sum(p, factor):
        return "count"
    if value.numel() == 1:
        count = 1 / abs(float(value)) if value else 0.0
        return "count" if count > 2.5 and abs(count - round(count)) < 1e-9 else "const"
    return "operand"


def _divides_by_sum(p: Program, factor: Ref) -> bool:
    step = p.steps[factor.i]
    return step.kind == "reciprocal" and p.steps[step.operands()[0].i].kind == "sum"


def spread(p: Program, g: Ref, step: Step) -> Ref:
    """Copy a gradient of a reduced value over the axes that were reduced."""
    shape, axes, keep = p.shape(step.arguments[0]), step.details["axes"], step.details["keep"]

    def copy(x):
        if not keep:
            for axis in axes:
                x = x.unsqueeze(axis)
        return x.expand(shape)

    return p.emit("spread", copy, g, role="spread", axes=axes)


def by_autograd(p: Program, step: Step, out: Ref, g: Ref) -> list[tuple[Ref, Ref]]:
    """Differentiate a step that has no rule by autograd, as one opaque product."""
    found = []
    for argument in dict.fromkeys(step.operands()):
        if not p.is_float(argument):
            continue

        def product(gradient, *values, argument=argument):
            with torch.enable_grad():
                leaf = values[step.operands().index(argument)].detach().requires_grad_()
                table = dict(zip((r.i for r in step.operands()), values, strict=True))
                table[argument.i] = leaf
                result = step.function(*[_look_up(a, table) for a in step.arguments])
                if not result.requires_grad:
                    return torch.zeros_like(leaf)
                return torch.autograd.grad(result, leaf, gradient)[0]

        found.append(
            (
                argument,
                p.emit(
                    "vjp",
                    product,
                    g,
                    *step.operands(),
                    role="opaque",
                    called=step.details.get("called", step.kind),
                ),
            )
        )
    return found


def _look_up(argument, table):
    if isinstance(argument, Ref):
        return table[argument.i]
    if isinstance(argument, list | tuple):
        return [_look_up(a, table) for a in argument]
    return argument
