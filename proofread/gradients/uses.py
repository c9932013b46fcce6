"""What a constant factor can mean in a forward: the counts it averages over, the uses of an argument."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from proofread.gradients.graph.program import Program, Ref

PASSED_ON = {"view", "expand", "cast", "permute"}
# Steps through which no gradient is 0 for what an entry is.
SMOOTH = PASSED_ON | {
    "add", "sub", "mul", "div", "mm", "pow", "sum", "mean", "var", "cat", "softmax", "log_softmax",
    "logsumexp", "normalise", "standardise", "sigmoid", "tanh", "exp", "log", "sqrt", "rsqrt",
    "reciprocal", "silu", "gelu", "gelu_tanh", "softplus", "sin", "cos", "conv",
}  # fmt: skip
AVERAGES = {"mean", "var", "normalise", "standardise"}


@dataclass(frozen=True)
class Uses:
    """The sizes of the axes, the counts that the forward divides by, and how often it uses `wrt`."""

    sizes: set[int]
    counts: set[int]
    once: bool
    blocks: bool  # whether a mask or a kink may make an entry 0
    halves: bool = False  # whether it multiplies by 0.5 or divides by 2
    divisors: frozenset[str] = frozenset()  # the inputs that it divides by

    def averages(self, count: int) -> bool:
        """Tell whether the forward averages over so many entries, or over a multiple of them."""
        return any(other % count == 0 for other in self.counts)


def uses_of(p: Program | None, sizes: set[int]) -> Uses:
    """Look into the forward; where it can't be recorded, anything is possible."""
    if p is None:
        return Uses(sizes, sizes, once=False, blocks=True)
    steps = p.steps[: p.output.i + 1]
    halves = any(
        (s.kind == "mul" and 0.5 in s.arguments) or (s.kind == "div" and s.arguments[1] == 2)
        for s in steps
    )
    below = [s.arguments[1] for s in steps if s.kind == "div"]
    names = frozenset(p.steps[r.i].name for r in below if isinstance(r, Ref))
    return Uses(sizes, _counts(p), _uses(p) == 1, _blocks(p), halves, names)


def _counts(p: Program) -> set[int]:
    active, found = p.dependents(1 << p.wrt.i), set()
    for i, step in enumerate(p.steps[: p.output.i + 1]):
        if step.kind in AVERAGES and active >> i & 1:
            shape = p.shape(step.arguments[0])
            found.add(math.prod(shape[a] for a in step.details["axes"]))
        elif step.kind == "div":
            found |= _whole(p, step.arguments[1])
        elif step.kind == "mul":
            for factor in step.arguments:
                found |= _whole(p, factor, inverse=True)
    return found - {0, 1}


def _whole(p: Program, factor: Ref | complex, inverse: bool = False) -> set[int]:
    """Return the whole numbers that a divisor holds, or that are 1 over what a factor holds."""
    values = p[factor] if isinstance(factor, Ref) else torch.tensor(factor)
    if not isinstance(values, Tensor) or values.is_complex() or factor == p.wrt:
        return set()
    values = values.double()[values != 0].unique()
    counts = 1 / values if inverse else values
    whole = counts.round()
    near = (counts - whole).abs() < 1e-6 * whole.abs()
    return {int(n) for n in whole} if near.all() else set()


def _blocks(p: Program) -> bool:
    for i, step in enumerate(p.steps[: p.output.i + 1]):
        value = p.values[i]
        smooth = step.kind in SMOOTH or step.details.get("called") in SMOOTH
        if step.kind in ("leaf", "captured"):
            smooth = isinstance(value, Tensor) and not bool((value == 0).any())
        if not smooth and i != p.wrt.i:
            return True
    return False


def _uses(p: Program) -> int:
    """Count the steps that read the argument, or what only moves its entries about."""
    same, count = {p.wrt.i}, 0
    for i, step in enumerate(p.steps[: p.output.i + 1]):
        reads = sum(r.i in same for r in step.operands())
        if reads and step.kind in PASSED_ON:
            same.add(i)
        else:
            count += reads
    return count
