"""Find another value of one of the forward's constants that explains a gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from proofread.gradients.compare import same
from proofread.gradients.graph.autograd import by_autograd_of
from proofread.gradients.graph.program import Program, Ref, resolve
from proofread.gradients.values import Finding

if TYPE_CHECKING:
    from proofread.gradients.search import Problem

MOST = 8  # constants that are tried
LARGEST = 20_000  # entries
ROUNDS = 6
TINY = 0.02  # a summand so small is an eps


def other_constants(u: Tensor, problem: Problem, tolerance: float) -> list[Finding]:
    """Solve for the value of each constant, by Newton's method on the gradient itself."""
    traced = problem.traced
    if traced is None or u.numel() > LARGEST or u.numel() < 3:
        return []
    found = []
    for i, position in _constants(traced)[:MOST]:
        value = _solved(traced, i, position, u, problem, tolerance)
        if value is not None:
            found.append(_named(traced, i, position, value))
    return found


def _constants(traced: Program) -> list[tuple[int, int]]:
    return [
        (i, position)
        for i, step in enumerate(traced.steps[: traced.output.i + 1])
        if step.kind in ("add", "sub", "mul", "div", "pow")
        for position, argument in enumerate(step.arguments)
        if isinstance(argument, int | float) and argument not in (0, -1, 1)
    ]


def _solved(traced, i, position, u, problem, tolerance) -> float | None:
    """Return the constant with which the gradient is u, or None."""
    start = value = float(traced.steps[i].arguments[position])
    misses: list[float] = []
    for _ in range(ROUNDS):
        gradient = _gradient(traced, i, position, value, problem.upstream)
        if gradient is None or gradient.shape != u.shape or not gradient.isfinite().all():
            return None
        if same(gradient, u, tolerance):
            return None if value == start else value
        misses.append(float((u - gradient).square().sum()))
        if len(misses) > 2 and misses[-1] > misses[-3] / 4:
            return None  # it comes no nearer: no value of this constant explains the gradient
        width = 1e-4 * (abs(value) or abs(start))
        moved = _gradient(traced, i, position, value + width, problem.upstream)
        if moved is None or moved.shape != u.shape:
            return None
        slope = (moved - gradient) / width
        square = float(slope.square().sum())
        if not square or not torch.isfinite(slope).all():
            return None
        value += float((slope * (u - gradient)).sum()) / square
    return None


def _gradient(traced: Program, i: int, position: int, value: float, upstream: Tensor):
    """Return the right gradient of the forward with another constant; None where it has none."""

    def changed(values):
        step = traced.steps[i]
        arguments = [resolve(a, values) for a in step.arguments]
        arguments[position] = value
        return step.function(*arguments)

    found = by_autograd_of(traced, [traced.wrt], upstream, {i: changed})
    return found[0] if found else None


def _named(traced: Program, i: int, position: int, value: float) -> Finding:
    step = traced.steps[i]
    right = float(step.arguments[position])
    where = traced.describe(Ref(i))
    source = ("constant", i, position)
    if step.kind in ("add", "sub") and abs(right) < TINY:
        eps = "left out" if abs(value) < 0.01 * abs(right) else f"{value:.2g} in your gradient"
        of = "" if where.startswith("a value") else f" of {where}"
        what = f"the eps {right:.2g}{of} is {eps}"
        return Finding("other_variant", what, 34, constant=value, source=source)
    what = f"the number {traced.number(right)} of {where} is {value:.4g} in your gradient"
    if abs(value + right) < 1e-6 * abs(right):
        return Finding("sign_error", what, 38, constant=value, source=source)
    label = "wrong_power" if step.kind == "pow" else "wrong_scale_factor"
    return Finding(label, what, 39, constant=value, source=source)
