"""Other inputs than the right ones: stepped already, with their axes exchanged, or taken for `wrt`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from proofread.gradients.compare import ratio, same
from proofread.gradients.graph.autograd import by_autograd_of
from proofread.gradients.graph.program import Program, Ref
from proofread.gradients.planted.candidates import SWAP
from proofread.gradients.values import Finding

if TYPE_CHECKING:
    from proofread.gradients.search import Problem


STEP_SIZES = (1.0, 0.5, 0.1, 0.05, 0.01, 0.001)


def updated_weights(u: Tensor, problem: Problem, tolerance: float) -> list[Finding]:
    """Explain the gradient by a weight that has already taken its step."""
    if problem.traced is None or not problem.programs:
        return []
    found = []
    _, program = problem.programs[-1]
    weights = _leaves(program)
    slopes = by_autograd_of(problem.traced, weights, problem.upstream) or []
    for weight, slope in zip(weights, slopes, strict=False):
        if slope is None or not slope.any():
            continue
        i, step = weight.i, program.steps[weight.i]
        what = f"the weight {step.name} is stepped before the gradient that needs its old value"
        if i != program.wrt.i:
            moved = _backward_reads(program, {weight.i: program[weight] + slope})
            instead = _backward_reads(program, {weight.i: slope})
            if instead is not None and same(u, instead, tolerance):
                said = f"the gradient with respect to {step.name} stands where {step.name} belongs"
                found.append(
                    Finding("wrong_operand", said, 27, f"Look for d{step.name} or dJ_d{step.name}.")
                )
            if moved is not None:
                # Each product reads the weight once, so a step moves the gradient in proportion.
                rate = ratio(u - problem.right, moved - problem.right, 10 * tolerance)
                downhill = rate is not None and (rate < 0 or bool((problem.upstream < 0).all()))
                if downhill and _large(problem.right - u, u, tolerance):
                    found.append(Finding("used_updated_weights", what, 26, constant=rate))
                    continue
        for rate in STEP_SIZES:
            stepped = program.attempt({i: lambda vs, i=i, s=rate * slope: vs[i] - s})
            if stepped is not None and same(u, stepped, tolerance):
                # Of a sum of squares, any factor looks like a step.
                rank = 45 if ratio(u, problem.right, tolerance) else 27
                found.append(Finding("used_updated_weights", what, rank, constant=rate))
                break
    return found


def _large(difference: Tensor, u: Tensor, tolerance: float) -> bool:
    return bool(difference.abs().max() > 20 * tolerance * u.abs().max())


def turned_inputs(u: Tensor, problem: Problem, tolerance: float) -> list[Finding]:
    """Explain the gradient by equal axes of other inputs that are exchanged, as of heads and time.

    The last two axes are left to the products: a matrix there is transposed for one of them.
    """
    if problem.traced is None or not problem.programs:
        return []
    found = []
    _, program = problem.programs[-1]
    others = [r for r in _leaves(program) if r != program.wrt and program[r].dim() > 2]
    for chosen in _alike(program, others):
        shape = program.shape(chosen[0])
        for a, b in itertools.combinations(range(len(shape)), 2):
            if shape[a] != shape[b] or (a, b) == (len(shape) - 2, len(shape) - 1):
                continue
            turned = {r.i: program[r].transpose(a, b) for r in chosen}
            everywhere = program.attempt({i: lambda vs, v=v: v for i, v in turned.items()})
            for gradient in (_backward_reads(program, turned), everywhere):
                if gradient is not None and same(u, gradient, tolerance):
                    names = " and ".join(program.steps[r.i].name for r in chosen)
                    what = f"the axes {a} and {b} of {names} are exchanged"
                    found.append(Finding("transposed_operand", what, 26))
                    break
    return found


def exchanged(u: Tensor, problem: Problem, tolerance: float) -> list[Finding]:
    """Recognise the gradient with respect to another input of the same shape."""
    traced = problem.traced
    if traced is None or not problem.programs:
        return []
    others = [r for r in _leaves(traced) if r != traced.wrt and traced.shape(r) == tuple(u.shape)]
    slopes = by_autograd_of(traced, others, problem.upstream) or []
    output = traced[traced.output]
    by_output = by_autograd_of(traced, [traced.wrt], output) if output.any() else None
    if by_output and by_output[0] is not None and same(u, by_output[0], tolerance):
        said = "the output of the forward stands where the upstream gradient belongs"
        return [Finding("wrong_operand", said, SWAP + 2, "backward(out) takes out for dJ/dout.")]
    hint = "Look at the order in which the gradients are returned, or unpacked."
    return [
        Finding("wrong_operand", f"this is the gradient with respect to {name}", SWAP + 3, hint)
        for name, slope in zip((traced.steps[r.i].name for r in others), slopes, strict=False)
        if name and slope is not None and slope.any() and same(u, slope, tolerance)
    ]


def _alike(program: Program, leaves: list[Ref]) -> Iterator[tuple[Ref, ...]]:
    """Yield each input, and those of one shape together."""
    yield from ((leaf,) for leaf in leaves)
    for shape in dict.fromkeys(program.shape(leaf) for leaf in leaves):
        together = tuple(leaf for leaf in leaves if program.shape(leaf) == shape)
        if len(together) > 1:
            yield together


def _leaves(program: Program) -> list[Ref]:
    return [
        Ref(i)
        for i, step in enumerate(program.steps[: program.output.i + 1])
        if step.kind == "leaf" and program.is_float(Ref(i)) and program[Ref(i)].dim()
    ]


def _backward_reads(program: Program, others: dict[int, Tensor]) -> Tensor | None:
    """Run the backward with other values of some inputs wherever it reads them."""
    overlay = dict(others)
    for j in range(min(others) + 1, program.upstream.i):
        step = program.steps[j]
        if step.kind in ("view", "permute", "expand") and step.operands()[0].i in overlay:
            shadow = {**overlay}
            overlay[j] = step.function(shadow[step.operands()[0].i])
    changes = {}
    for j in range(program.upstream.i + 1, program.result.i + 1):
        step = program.steps[j]
        if not any(r.i in overlay for r in step.operands()):
            continue

        def change(vs, step=step):
            kept = {k: vs[k] for k in overlay}
            for k, value in overlay.items():
                vs[k] = value
            try:
                return step.run(vs)
            finally:
                for k, value in kept.items():
                    vs[k] = value

        changes[j] = change
    if not changes:
        return None
    return program.attempt(changes)
